"""A guest with instruction rules, for their tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.compat.test_events import EventGuest

TEXT = """
    mov ecx, 2
turn:
    add rax, [rip + data]
down:
    dec ecx
branch:
    jnz turn
store:
    mov [rip + data + 8], rax
last:
    jmp end
"""
FIRST, SECOND = ["start", "turn", "down", "branch"], ["store", "last"]


class RuledGuest(EventGuest):
    """A guest with rules that note the instructions they are asked about."""

    def __init__(self, qbdi: Any, text: str = TEXT, **more: Any) -> None:
        super().__init__(qbdi, text, **more)
        self.instruction = qbdi.ANALYSIS_INSTRUCTION

    def rule(self, name: str = "", answer: Callable[[str], Any] | None = None) -> int:
        """Register a rule. *answer* gives its result for the label of an instruction."""
        callback = self.noting_rule(name, answer)
        return int(self.vm.addInstrRule(callback, self.instruction, None))

    def noting_rule(
        self, name: str = "", answer: Callable[[str], Any] | None = None
    ) -> Callable[..., Any]:
        """Return a rule that notes *name* and where the instruction is."""

        def callback(vm: Any, analysis: Any, data: object) -> Any:
            where = self.where(analysis.address)
            self.log.append(name + where)
            return answer(where) if answer else []

        return callback

    def asked(self, start: str = "start", stop: str = "end", **registers: int) -> list[str]:
        """Run, and return what rules were asked about, each but once.

        A part of a block that is entered later may be translated again, as a block of its own.
        """
        words = [entry for entry in self.events(start, stop, **registers) if isinstance(entry, str)]
        return list(dict.fromkeys(words))

    def called(self) -> list[Any]:
        """Run, and return which instruction callbacks were called."""
        return [entry for entry in self.events() if isinstance(entry, tuple)]

    def due(self, position: str, name: str, *actions: str, priority: int = 0) -> Any:
        """An InstrRuleDataCBK with a noting callback."""
        where = getattr(self.qbdi, position + "INST")
        return self.qbdi.InstrRuleDataCBK(self.noting(name, *actions), None, where, priority)

    def at(self, label: str, *results: Any) -> Callable[[str], list[Any]]:
        """The answer of a rule that gives *results* for one instruction only."""
        return lambda where: list(results) if where == label else []
