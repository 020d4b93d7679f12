"""Code where execution crosses a border.

From Python into the cache, from there to native code, and between instrumented and other code.
"""

from __future__ import annotations

from collections.abc import Callable

from pydbi.jit.arena import Arena
from pydbi.jit.draft import Draft
from pydbi.jit.events import (
    TRANSFER_CALL,
    TRANSFER_RETURN,
    EventRegistration,
    EventRegistry,
    Report,
    transfer_state,
)
from pydbi.jit.lookup import LookupTable
from pydbi.jit.patch_branches import emit_push
from pydbi.jit.placement import place
from pydbi.jit.stubs import stubs

_JUMP = b"\xe9"
_NATIVE = stubs().template("native")
_TRANSFER_IN = stubs().template("transfer_in").code
_TRANSFER_OUT = stubs().template("transfer_out")
_CALL, _CALL_RETURN = stubs().template("call"), stubs().template("call_return")


def make_call_block(
    draft: Draft, arena: Arena, lookup: LookupTable, app: int, frame_size: int, return_address: int
) -> int:
    """Make what calls the function at *app* from Python, and what its return leads to.

    See `Translator.translate_call`.
    """
    draft.begin(app, b"", arena, arena.code_top)
    if lookup.get(return_address) is None:
        code = lookup.landing_pad(return_address) + _CALL_RETURN.filled(
            "rip", return_address.to_bytes(4, "little")
        )
        lookup.enter(return_address, arena.add_data(code) + lookup.pad_entry)
    draft.out = bytearray(_CALL.filled("frame", (-frame_size).to_bytes(4, "little", signed=True)))
    emit_push(draft, return_address)
    draft.exit(_JUMP, app)
    draft.cache.call_blocks.add(draft.base)
    place(draft, lookup, app, 1, draft.base, draft.base, [0])
    return draft.base


def make_native_block(
    draft: Draft,
    arena: Arena,
    lookup: LookupTable,
    events: EventRegistry | None,
    app: int,
    pad: bool,
) -> int:
    """Make the block that hands over to native code at *app*.

    Args:
        events: reports that the instrumented ranges are left, unless it is None.
        pad: whether the block gets a landing pad.
    """
    draft.begin(app, b"", arena, arena.code_top)
    draft.out = lookup.landing_pad(app) if pad else bytearray()
    start = draft.base + len(draft.out)
    if events is not None:
        emit_transfer(draft, events, None, app)
    draft.out += _NATIVE.filled("target", app.to_bytes(8, "little"))
    draft.entries[app] = start
    place(draft, lookup, app, 1, start, start, [0])
    return start


def emit_transfer(
    draft: Draft,
    events: EventRegistry,
    returning: Callable[[EventRegistration], EventRegistration] | None,
    app: int,
) -> None:
    """Emit what reports that execution has come into the instrumented ranges, or left them.

    Args:
        returning: makes what is called where they are entered, of the registration for transfers;
            None: they are left.
    """
    bits = TRANSFER_CALL if returning is None else TRANSFER_RETURN
    due = events.due(bits)
    draft.instruction = 0  # none is current
    out = draft.out
    if returning is None:
        out += _TRANSFER_OUT.filled("target", app.to_bytes(8, "little"))
    else:
        out += _TRANSFER_IN
        due = tuple(map(returning, due))
    behind = len(out)
    draft.report(Report(transfer_state(bits, app), due), app)
    out[behind - 4 : behind] = (len(out) - behind).to_bytes(4, "little")
    draft.shift(0)
