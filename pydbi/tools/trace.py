"""``pydbi trace``: print the instructions that a program or a function executes.

One line for each, in columns: module and offset, function and offset (``-`` where the file has no
symbol), and the instruction.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

import pydbi
from pydbi.tools.library_call import ARGUMENT_HELP, RESULTS
from pydbi.tools.messages import Messages, write_all
from pydbi.tools.options import (
    Command,
    UsageError,
    messages_of,
    parse_command,
    target_parser,
)
from pydbi.tools.progress import Progress
from pydbi.tools.targets import run_target

_LINES_AT_ONCE = 4096


class OutputError(pydbi.PydbiError):
    """The trace cannot be written."""


class TraceTool:
    """Writes a line for each executed instruction, in large pieces.

    Args:
        write: where lines go.
        summarize: whether the number of instructions and the ending follow them.
        only_counts: whether that is all.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        messages: Messages,
        *,
        summarize: bool,
        only_counts: bool = False,
    ) -> None:
        self._write = write
        self._progress = Progress(messages)
        self._summarize = summarize
        self._only_counts = only_counts
        self._written = 0
        self._known: dict[int, bytes] = {}
        self._pending: list[bytes] = []
        self._maps: list[pydbi.MemoryMap] = []

    @property
    def count(self) -> int:
        """How many instructions were executed."""
        return self._written + len(self._pending)

    def begin(self, vm: pydbi.VM) -> None:
        """Let every instruction be noted."""
        vm.addCodeCB(pydbi.PREINST, self._on_instruction, None)

    def begin_child(self) -> None:
        """What its parent has noted, the parent writes."""
        self._pending.clear()
        self._progress.leave_to_parent()

    def forget_code(self) -> None:
        """Other code may come to lie where some was."""
        self._known.clear()
        self._maps.clear()

    def _on_instruction(
        self, vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object
    ) -> pydbi.VMAction:
        """Note the instruction that is about to be executed."""
        address = gpr.rip
        line = self._known.get(address)
        if line is None:
            line = self._known[address] = b"" if self._only_counts else self._describe(vm)
        self._pending.append(line)
        if len(self._pending) >= _LINES_AT_ONCE:
            self.flush()
        return pydbi.CONTINUE

    def flush(self) -> None:
        """Write what was noted so far.

        Raises:
            BrokenPipeError: the reader has gone.
            OutputError: it cannot be written.
        """
        lines, self._pending = self._pending, []
        self._written += len(lines)
        try:
            self._write(b"".join(lines))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write the trace: {error.strerror}") from None
        if self._progress.is_due():
            self._progress.show(f"{self._written:,} instructions")

    def end(self, ending: str | None) -> None:
        """Write the rest, and the summary."""
        self.flush()
        self._progress.end()
        if self._summarize and ending:
            self._write(f"instructions: {self._written}\n{ending}\n".encode())

    def _describe(self, vm: pydbi.VM) -> bytes:
        analysis = vm.getInstAnalysis(
            pydbi.ANALYSIS_INSTRUCTION | pydbi.ANALYSIS_DISASSEMBLY | pydbi.ANALYSIS_SYMBOL
        )
        address = analysis.address
        place, function = f"{address:#x}", "-"
        if analysis.moduleName:
            place = f"{analysis.moduleName}+{address - self._base(address):#x}"
        if analysis.symbolName:
            function = f"{analysis.symbolName}+{analysis.symbolOffset:#x}"
        text = analysis.disassembly.strip().replace("\t", " ")
        return f"{place:<27} {function:<27} {text}\n".encode(errors="replace")

    def _base(self, address: int) -> int:
        """Return where the file begins that is mapped at *address*."""
        if not any(address in region.range for region in self._maps):
            self._maps = pydbi.getCurrentProcessMaps(True)
        base, name = 0, ""
        for region in self._maps:
            if region.name != name:
                base, name = region.range.start, region.name
            if address in region.range:
                break
        return base


def main(arguments: Sequence[str]) -> int:
    """Run the command with *arguments* and return the exit status.

    A wrong command is one line on standard error and exit status 2.
    """
    parser = target_parser(
        "trace",
        description="Run a program, or call a function of a shared library, and print each\n"
        "instruction it executes: those of its own module, unless others are named.",
        epilog="A program's trace goes to standard error or to a file; what it prints is its own,\n"
        "and its exit status is returned. A function's trace, and its result, go to\n"
        "standard output.\n\n" + ARGUMENT_HELP,
    )
    parser.add_argument("--count", action="store_true", help="only count the instructions")
    parser.add_argument("--output", metavar="FILE", help="where the trace goes")
    parser.add_argument("--result", choices=list(RESULTS), help="see below")
    try:
        command = parse_command(parser, arguments)
        options = command.options
        messages = messages_of("trace", command)
        write = _writer(command, messages)
        tool = TraceTool(
            write,
            messages,
            summarize=not options.quiet,
            only_counts=options.count,
        )
        return run_target(command, tool, messages, everything=False)
    except UsageError as error:
        parser.report(error)
        return 2


def _writer(command: Command, messages: Messages) -> Callable[[bytes], object]:
    """Return what writes the trace to where it belongs."""
    if command.options.output:
        return _to_file(command.options.output)
    if command.program:
        return messages.write_bytes
    if sys.stdout is None:
        raise UsageError("standard output is closed: name a file with --output")
    return sys.stdout.buffer.write


def _to_file(path: str) -> Callable[[bytes], object]:
    """Return what writes to a new file; the children of a program write to it, too."""
    from pydbi.program.descriptor_calls import move_high

    try:
        low = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror}") from None
    descriptor = move_high(low)
    os.close(low)
    return partial(write_all, descriptor)
