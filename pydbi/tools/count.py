"""``pydbi count``: how many instructions a program or a function executes, and where.

Counted are sequences: instructions that are executed one behind the other. What is in one is found
out when it is first seen, so a callback has only to count it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pydbi
from pydbi.host.elf import symbolizer
from pydbi.jit.syscalls import SYSCALL_SIZE
from pydbi.tools.library_call import ARGUMENT_HELP, RESULTS
from pydbi.tools.messages import Messages
from pydbi.tools.options import (
    UsageError,
    messages_of,
    not_negative,
    parse_command,
    target_parser,
)
from pydbi.tools.progress import Progress
from pydbi.tools.targets import run_target
from pydbi.tuples import NamedTuple
from pydbi.x86.scanner import scan_block

_LONGEST = 1 << 16
"""Instructions in a sequence, at most."""
_LOOK_AT_CLOCK = (1 << 14) - 1


class Place(NamedTuple):
    """Where a sequence is."""

    module: str
    function: str


class _Sequence:
    """A sequence, and how often it was executed."""

    __slots__ = ("end", "instructions", "place", "start", "times")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.instructions = _count_instructions(start, end)
        location = symbolizer.locate(start)
        self.place = Place(location.module or "(no file)", location.symbol or "?")
        self.times = 0


class CountTool:
    """Counts what is executed, and prints a table at the end."""

    def __init__(self, messages: Messages, by: str, top: int) -> None:
        self._messages = messages
        self._by = by
        self._top = top
        self._known: dict[tuple[int, int], _Sequence] = {}
        self._progress = Progress(messages)
        self._gone: list[_Sequence] = []
        self._events = 0
        self._is_child = False
        self._latest: _Sequence | None = None
        self._not_executed = 0

    def begin(self, vm: pydbi.VM) -> None:
        """Let every sequence be counted when it is entered."""
        self._gpr = vm.getGPRState()
        vm.addVMEventCB(pydbi.SEQUENCE_ENTRY, self._on_sequence, self._known)

    def begin_child(self) -> None:
        """A child is not counted: its parent's figures are its own."""
        self._is_child = True
        self._progress.leave_to_parent()
        self._messages.leave_to_parent()

    def forget_code(self) -> None:
        """Let other code at the same addresses be counted apart."""
        self._gone += self._known.values()
        self._known.clear()

    def flush(self) -> None:
        """Nothing is written before the end."""

    @property
    def count(self) -> int:
        """How many instructions were executed."""
        return sum(map(self._executed, self._sequences()))

    def _sequences(self) -> list[_Sequence]:
        return [*self._gone, *self._known.values()]

    def _executed(self, sequence: _Sequence) -> int:
        count = sequence.instructions * sequence.times
        return count - self._not_executed if sequence is self._latest else count

    def _on_sequence(
        self,
        vm: pydbi.VM,
        state: pydbi.VMState,
        gpr: pydbi.GPRState,
        fpr: pydbi.FPRState,
        known: dict[tuple[int, int], _Sequence],
    ) -> pydbi.VMAction:
        key = state.sequenceStart, state.sequenceEnd
        try:
            sequence = known[key]
        except KeyError:
            sequence = known[key] = _Sequence(*key)
        sequence.times += 1
        self._latest = sequence
        self._events += 1
        if not self._events & _LOOK_AT_CLOCK and self._progress.is_due():
            self._progress.show(f"{self._events:,} sequences of instructions")
        return pydbi.CONTINUE

    def end(self, ending: str | None) -> None:
        """Print the figures."""
        self._progress.end()
        if self._is_child:
            return
        latest, rip = self._latest, self._gpr.rip
        if latest is not None and latest.start < rip < latest.end:  # a system call was the end
            self._not_executed = _count_instructions(rip + SYSCALL_SIZE, latest.end)
        times = sum(entry.times for entry in self._sequences())
        self._messages.write(
            f"pydbi count: {self.count:,} instructions in {times:,} sequences, "
            f"{len(self._sequences()):,} different ones; "
            f"{ending or 'it could not go on'}\n"
        )
        if self._by != "none" and times:
            self._messages.write(self._table())

    def _table(self) -> str:
        """Return lines with the instructions, sequences and name of each module or function."""
        instructions: Counter[str] = Counter()
        times: Counter[str] = Counter()
        for entry in self._sequences():
            place = entry.place
            name = place.module if self._by == "module" else f"{place.module}!{place.function}"
            instructions[name] += self._executed(entry)
            times[name] += entry.times
        shown = instructions.most_common(self._top or None)
        lines = [f"{'instructions':>15} {'sequences':>13}  {self._by}"]
        lines += [f"{number:>15,} {times[name]:>13,}  {name}" for name, number in shown]
        left = len(instructions) - len(shown)
        if left:
            lines.append(f"{'':>29}  and {left} more (--top 0 shows all)")
        return "".join(f"{line}\n" for line in lines)


def _count_instructions(start: int, end: int) -> int:
    try:
        code = pydbi.readMemory(start, end - start)
    except pydbi.GuestMemoryError:
        return 1  # it is gone already
    count = 0
    while code:
        starts, _, size, _ = scan_block(code, _LONGEST)
        count += len(starts)
        code = code[size:] if size else b""
    return count


def main(arguments: Sequence[str]) -> int:
    """Run the command with *arguments* and return the exit status."""
    parser = target_parser(
        "count",
        description="Run a program, or call a function of a shared library, and count the\n"
        "instructions it executes, of all modules unless some are named.",
        epilog="The figures go to standard error; what a program prints is its own, and its\n"
        "exit status is returned. Forked children run along and are not counted.\n\n"
        + ARGUMENT_HELP,
    )
    parser.add_argument(
        "--by", choices=["module", "function", "none"], default="module", help="what to sum up by"
    )
    parser.add_argument(
        "--top", type=not_negative, default=20, metavar="N", help="lines of the table (0: all)"
    )
    parser.add_argument("--result", choices=list(RESULTS), help="see below")
    try:
        command = parse_command(parser, arguments)
        options = command.options
        messages = messages_of("count", command)
        tool = CountTool(messages, options.by, options.top)
        return run_target(command, tool, messages, everything=True)
    except UsageError as error:
        parser.report(error)
        return 2
