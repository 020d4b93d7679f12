"""What kind of instruction it is: the fields of ANALYSIS_INSTRUCTION."""

from __future__ import annotations

from typing import Any, Final

from pydbi.enums import ConditionType
from pydbi.x86.analysis_forms import find_form
from pydbi.x86.analysis_sizes import access_sizes
from pydbi.x86.instruction import Instruction, scan

__all__ = ["facts_of"]

_LIMIT: Final = 1 << 15
_known: dict[bytes, tuple[Any, ...]] = {}
_NONE: Final = ConditionType.CONDITION_NONE
#: By the low four bits of an opcode (SDM volume 1, appendix B).
_CONDITIONS: Final = tuple(
    ConditionType[f"CONDITION_{name}"]
    for name in (
        "OVERFLOW", "NOT_OVERFLOW", "BELOW", "ABOVE_EQUALS", "EQUALS", "NOT_EQUALS",
        "BELOW_EQUALS", "ABOVE", "SIGN", "NOT_SIGN", "EVEN", "ODD", "LESS", "GREAT_EQUALS",
        "LESS_EQUALS", "GREAT",
    )
)  # fmt: skip


def facts_of(code: bytes) -> tuple[Any, ...]:
    """Return the facts in the order of `pydbi.x86.analysis`, remembered by the bytes."""
    facts = _known.get(code)
    if facts is None:
        if len(_known) >= _LIMIT:
            _known.clear()
        facts = _known[code] = _facts(scan(code))
    return facts


def _facts(instruction: Instruction) -> tuple[Any, ...]:
    form = find_form(instruction)
    kinds = form.kinds
    load, store = access_sizes(instruction, form)
    condition = _NONE
    if "cc" in kinds:
        condition = _CONDITIONS[instruction.opcode & 15]
    elif form.condition:
        condition = ConditionType[f"CONDITION_{form.condition.upper()}"]
    return (
        "flow" in kinds,
        "jump" in kinds,
        "call" in kinds,
        "return" in kinds,
        "compare" in kinds,
        False,
        "move_imm" in kinds,
        form.load is not None or load > 0,
        form.store is not None or store > 0,
        load,
        store,
        condition,
    )
