"""Gates of watches among those of other callbacks, where everything is recorded anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydbi.jit.patch_operands import Special
from pydbi.jit.patches import rule_for
from pydbi.jit.recording import Plan
from pydbi.jit.watch_filters import emit_filter, land, make_filter

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft
    from pydbi.jit.events import BlockEvents
    from pydbi.jit.memory_callbacks import MemoryCallbacks


def emit_watching_gates(
    draft: Draft, vectors: Sequence[int], rip: int, memory: MemoryCallbacks, plan: Plan | None
) -> None:
    """Emit a gate for each of *vectors*; in front of a group's, what tells whether it is due."""
    for vector in vectors:
        group = memory.groups.get(vector)
        if group is None:
            draft.gates((vector,), rip)
            continue
        found = make_filter(group, plan) if plan is not None else None
        if found is None:
            continue
        miss = emit_filter(draft, found.tests) if found.tests else None
        draft.gates((found.vector,), rip)
        if miss is not None:
            land(draft, miss)


def emit_watching_branch(
    draft: Draft,
    special: Special,
    vectors: Sequence[int],
    events: BlockEvents | None,
    memory: MemoryCallbacks,
    plan: Plan | None,
) -> None:
    """Emit a branch with what is due behind it; twice if it depends on what the branch accesses.

    Raises:
        UnsupportedInstruction: it cannot be translated.
    """
    emit = rule_for(special[2])
    others = [vector for vector in vectors if vector not in memory.groups]
    group = next((memory.groups[vector] for vector in vectors if vector in memory.groups), None)
    found = make_filter(group, plan) if group is not None and plan is not None else None
    if found is not None:
        miss = emit_filter(draft, found.tests) if found.tests else None
        hit = [found.vector if vector in memory.groups else vector for vector in vectors]
        draft.watch_branch(hit, events)
        emit(draft, special)
        if miss is None:
            return
        land(draft, miss)
    draft.watch_branch(others, events)
    emit(draft, special)
