"""Machine code that tells, from what was recorded, whether an instruction hits a watch.

`Filter`s are exact where all accesses have a fixed size; then a gate behind one need not look
again, and can call a lone watch itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pydbi.jit.context import SHADOW_OFFSET, SLOT
from pydbi.jit.memory_callbacks import READ, WRITE
from pydbi.jit.recording import Plan
from pydbi.jit.records import Masked, Plain, Record, Repeated
from pydbi.jit.watch_groups import WatchGroup
from pydbi.jit.watch_places import SPACE, Window, merge
from pydbi.tuples import NamedTuple
from pydbi.types import MemoryAccessType
from pydbi.x86.encoder import load_gs, store_gs
from pydbi.x86.registers import RAX, RCX, RDX

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

_WINDOWS: Final = 8
"""Windows that are tested exactly; of more, all between the lowest and the highest."""
_SLOTS: Final = ((RAX, SLOT["RECORD_0"]), (RCX, SLOT["RECORD_1"]), (RDX, SLOT["RECORD_2"]))
_KEEP_FLAGS: Final = b"\x9f\x0f\x90\xc0"  # lahf; seto al
_GIVE_FLAGS: Final = b"\x04\x7f\x9e"  # add al, 0x7f; sahf
_JB, _JMP = b"\x0f\x82", b"\xe9"
_LARGEST_COUNT: Final = 1 << 40
"""Repetitions; more than that are certain to end in a fault."""


class _Span(NamedTuple):
    """Recorded address: it hits if address - low < length."""

    word: int
    low: int
    length: int


class _Repetition(NamedTuple):
    """A string instruction: it may hit if it comes near a window."""

    word: int
    size: int
    window: Window
    executed: bool
    """Its pointer afterwards is recorded too; before it, rcx has the count."""


class Filter(NamedTuple):
    """How to tell whether a group is due at an instruction.

    Attributes:
        tests: any of these; if there is none, it always may be.
        vector: whom to call then.
    """

    tests: tuple[_Span | _Repetition, ...]
    vector: int


def make_filter(group: WatchGroup, plan: Plan) -> Filter | None:
    """Return when and how *group* is called for what *plan* records; None if it never is."""
    tests: list[_Span | _Repetition] = []
    kinds = 0
    exact, always = True, False
    for record in plan.records:
        kind = WRITE if record.type is MemoryAccessType.MEMORY_WRITE else READ
        windows: Sequence[Window] = group.windows(kind)
        if not windows:
            continue
        if len(windows) > _WINDOWS:
            windows, exact = [(windows[0][0], windows[-1][1])], False
        kinds |= kind
        found = _tests(record, merge(windows), not group.is_before)
        always |= not found
        exact &= isinstance(record, Plain)
        tests += found
    if not kinds:
        return None
    watches = group.of_kind(kinds)
    alone = len(watches) == 1 and watches[0].kind & kinds == kinds
    vector = watches[0].vector if exact and alone else group.registration.vector
    first = SHADOW_OFFSET // 8 + 2 * plan.first_slot
    placed = tuple(test._replace(word=first + test.word) for test in tests)
    return Filter(() if always else placed, vector)


def _tests(record: Record, windows: Sequence[Window], executed: bool) -> list[_Span | _Repetition]:
    """Return what tells whether *record* hits; nothing if it always may."""
    found: list[_Span | _Repetition] = []
    if isinstance(record, Plain | Masked):
        for low, high in windows:
            length = high - low + record.size - 1
            if length >= SPACE:
                return []
            found.append(_Span(record.word, (low - record.size + 1) % SPACE, length))
    elif isinstance(record, Repeated) and record.base is None and not record.narrow:
        window = windows[0][0], windows[-1][1]
        if window[1] - window[0] < SPACE >> 1:
            found.append(_Repetition(record.word, record.size, window, executed))
    return found


def emit_filter(draft: Draft, tests: Sequence[_Span | _Repetition]) -> int:
    """Emit *tests*, behind which it goes on if one hits.

    Returns:
        The offset of the displacement of the jump that is taken if none does.
    """
    out = draft.out
    for register, slot in _SLOTS:
        out += store_gs(register, slot)
    out += _KEEP_FLAGS
    hits: list[int] = []
    for test in tests:
        if isinstance(test, _Span):
            _emit_span(draft, test)
        else:
            hits.append(_emit_repetition(draft, test))
        out += _JB + bytes(4)
        hits.append(len(out))
    restore = _GIVE_FLAGS + b"".join(load_gs(register, slot) for register, slot in _SLOTS)
    out += restore + _JMP + bytes(4)
    miss = len(out) - 4
    for place in hits:
        out[place - 4 : place] = (len(out) - place).to_bytes(4, "little")
    out += restore
    return miss


def land(draft: Draft, site: int) -> None:
    """Let the jump whose displacement is at offset *site* lead to here."""
    out = draft.out
    out[site : site + 4] = (len(out) - site - 4).to_bytes(4, "little", signed=True)


def _emit_span(draft: Draft, span: _Span) -> None:
    draft.out += load_gs(RCX, span.word * 8)
    _emit_with_constant(draft, b"\x48\x2b\x0d", span.low)  # sub rcx, [rip + ...]
    _emit_with_constant(draft, b"\x48\x3b\x0d", span.length)  # cmp rcx, [rip + ...]


def _emit_repetition(draft: Draft, test: _Repetition) -> int:
    """Compare so that below means a hit; return where a jump that is one already ends.

    With n bytes to be accessed from p up or down, all lie in [p - n, p + n + size).
    """
    out = draft.out
    low, high = test.window
    slack = 2 * test.size
    if test.executed:
        out += load_gs(RDX, test.word * 8 + 8)
        out += b"\x65\x48\x2b\x14\x25" + (test.word * 8).to_bytes(4, "little")  # sub rdx, gs:[]
        out += b"\x48\x89\xd1\x48\xf7\xd9\x48\x0f\x49\xd1"  # mov rcx, rdx; neg rcx; cmovns rdx, rcx
    else:
        out += b"\x48\x89\xca"  # mov rdx, rcx
    _emit_with_constant(draft, b"\x48\x3b\x15", _LARGEST_COUNT)  # cmp rdx, [rip + ...]
    out += b"\x0f\x83" + bytes(4)  # jae
    place = len(out)
    if not test.executed and test.size > 1:
        out += bytes((0x48, 0xC1, 0xE2, test.size.bit_length() - 1))  # shl rdx, ...
    out += load_gs(RCX, test.word * 8)
    out += b"\x48\x01\xd1"  # add rcx, rdx
    _emit_with_constant(draft, b"\x48\x2b\x0d", (low - slack) % SPACE)  # sub rcx, [rip + ...]
    out += b"\x48\x01\xd2"  # add rdx, rdx
    _emit_with_constant(draft, b"\x48\x03\x15", high - low + 2 * slack)  # add rdx, [rip + ...]
    out += b"\x48\x39\xd1"  # cmp rcx, rdx
    return place


def _emit_with_constant(draft: Draft, head: bytes, value: int) -> None:
    """Emit an instruction that ends in a displacement to 8 bytes that hold *value*."""
    out = draft.out
    constant = draft.constant(value)
    out += head
    out += (constant - (draft.base + len(out) + 4)).to_bytes(4, "little", signed=True)
