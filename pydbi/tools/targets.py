"""Running a command's target, a program or a library's function, under a tool."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

import pydbi
from pydbi.host.elf import symbolizer
from pydbi.program.modules import answers_to
from pydbi.program.surroundings import leave
from pydbi.tools.library_call import FunctionTarget, read_text
from pydbi.tools.messages import Messages, first_line, signal_name
from pydbi.tools.options import Command

if TYPE_CHECKING:
    from pydbi.program import Module, Program, Syscall


class Tool(Protocol):
    """What a command does with its target."""

    @property
    def count(self) -> int:
        """How many instructions it has seen."""

    def begin(self, vm: pydbi.VM) -> None:
        """Register what is to be called."""

    def begin_child(self) -> None:
        """Forget what was seen so far: this process is a child of the one that has seen it."""

    def forget_code(self) -> None:
        """Forget what lies where: code has been unmapped."""

    def flush(self) -> None:
        """Write what is to be written before the process may end or be another."""

    def end(self, ending: str | None) -> None:
        """Report; *ending* says how the target has ended, None that it could not go on."""


def run_target(command: Command, tool: Tool, messages: Messages, *, everything: bool) -> int:
    """Run the target under *tool*.

    Args:
        everything: whether all modules are instrumented if the options name none.

    Returns:
        The exit status. A program ends this process as it has ended itself.

    Raises:
        UsageError: the command is wrong.
    """
    if command.program:
        _run_program(command, tool, messages, everything)
    return _run_function(command, tool, messages, everything)


def _run_function(command: Command, tool: Tool, messages: Messages, everything: bool) -> int:
    options = command.options
    target = FunctionTarget(options.words, options.result or "auto")
    vm = pydbi.VM()
    target.instrument(vm, options.module, options.all or (everything and not options.module))
    tool.begin(vm)
    try:
        result = target.run(vm)
    except BaseException:
        tool.end(None)
        raise
    tool.end(f"result: {result}")
    if not tool.count:
        messages.say(
            "nothing was instrumented: the function is one of those that run natively, because "
            "Python itself needs them"
        )
    return 0


def _run_program(command: Command, tool: Tool, messages: Messages, everything: bool) -> NoReturn:
    from pydbi.program import Program
    from pydbi.tools.loading import report_not_loaded

    try:
        program = Program(
            command.program, own_process=True, follow_exec=command.options.follow_exec
        )
    except OSError as error:
        leave(report_not_loaded(messages, error))
    watched = _Watched(program, tool, messages)
    options = command.options
    if not options.follow_exec:
        watched.report_exec()
    if not (options.all or (everything and not options.module)):
        watched.instrument(options.module)
    tool.begin(program.vm)
    try:
        status = program.run() or 0
    except pydbi.PydbiError as error:
        tool.end(None)
        messages.write(f"pydbi {messages.command}: {first_line(error)}\n")
        leave(1)
    if program.fault is not None:
        messages.say(first_line(program.fault))
    tool.end(f"exit status {status}" if status >= 0 else f"ended by {signal_name(-status)}")
    watched.explain()
    leave(status)


class _Watched:
    """A program, and what a tool must know about it."""

    def __init__(self, program: Program, tool: Tool, messages: Messages) -> None:
        self._program = program
        self._tool = tool
        self._messages = messages
        self._names: list[str] = []
        self._loaded: list[Module] = []
        self._is_child = False
        program.on_load(self._on_load)
        program.on_fork(self._on_fork)
        program.on_unload(lambda program, module: tool.forget_code())
        program.on_exit(lambda program, status: tool.flush())

    def report_exec(self) -> None:
        """Let the tool end when the program executes another one, which runs natively."""
        for name in ("execve", "execveat"):
            self._program.addSyscallCB(name, before=self._before_exec)

    def instrument(self, names: Sequence[str]) -> None:
        """Instrument the modules of these names; without any, the program's own."""
        if names:
            self._add(names)
            return
        self._add_own()
        self._program.on_exec(lambda program, path: self._add_own())

    def _add_own(self) -> None:
        own = self._program.modules.around(self._program.entry)
        self._add([own.name] if own else [])

    def _add(self, names: Sequence[str]) -> None:
        self._names += names
        for name in names:
            self._program.vm.addInstrumentedModule(name)

    def explain(self) -> None:
        """If nothing was instrumented, say why."""
        if self._tool.count:
            return
        missing = [
            name
            for name in self._names
            if not any(answers_to(module, name) for module in self._loaded)
        ]
        if missing:
            there = ", ".join(dict.fromkeys(module.name for module in self._loaded))
            reason = f"no module {' or '.join(missing)} was loaded; there were: {there}"
        elif self._names:
            reason = f"no code of {' or '.join(self._names)} was executed"
        else:
            reason = "not one instruction was executed"
        self._messages.say(f"nothing was instrumented: {reason}")

    def _on_load(self, _: Program, module: Module) -> None:
        self._loaded.append(module)
        symbolizer.refresh()  # another may have been where this one is

    def _on_fork(self, _: Program, child: int) -> None:
        if child == 0:
            self._is_child = True
            self._tool.begin_child()

    def _before_exec(self, _: object, call: Syscall) -> None:
        """Report before this process is another program."""
        self._tool.flush()
        path = read_text(call.arguments[0 if call.name == "execve" else 1]) or b""
        if not self._is_child and os.path.isfile(path) and os.access(path, os.X_OK):
            self._tool.end(
                f"goes on natively as {os.fsdecode(path)} (--follow-exec sees that, too)"
            )
