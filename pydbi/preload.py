"""PyQBDIPreload's protocol: ``python -m pydbi.preload SCRIPT PROGRAM [ARGUMENT ...]``.

The program runs until it is about to execute ``main``. There the script is executed, and its
``pyqbdipreload_on_run(vm, start, stop)`` is called: *start* is main's address, *stop* where it
returns to, and ``vm.run(start, stop)`` runs it. What comes after main runs without callbacks.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pydbi
from pydbi.host.memory import readRword
from pydbi.program import Module, Program
from pydbi.program.descriptor_calls import move_high
from pydbi.program.surroundings import leave
from pydbi.tools.loading import report_not_loaded
from pydbi.tools.messages import Messages, first_line, report
from pydbi.tools.script import execute_script, failure
from pydbi.types import Range, VMAction

_USAGE = """\
usage: pydbi preload SCRIPT PROGRAM [ARGUMENT ...]
       python -m pydbi.preload SCRIPT PROGRAM [ARGUMENT ...]

Run a program up to main, and let a script for PyQBDIPreload go on from there: it defines
pyqbdipreload_on_run(vm, start, stop). The program's exit status is returned; 1 if the
script ends with an exception, and the script's own if that is SystemExit."""
_FUNCTION = "pyqbdipreload_on_run"
_WRONG = 2
"""Exit status of a command that is wrong."""
_RUNTIME = ("ld-", "libc.so", "libc-", "libpthread", "linux-vdso")
"""Beginnings of the names of what is not instrumented: the C library and its loader."""
_WORD = 8
_NOWHERE = (1 << 64) - 1
"""Where a run is to stop: at no address of the program's."""


class NoMainError(pydbi.PydbiError):
    """A program has ended without calling main, or what calls it is not known."""


class ScriptError(pydbi.PydbiError):
    """A script does not define what it must."""


def run_to_main(program: Program) -> int:
    """Run *program* until it is about to execute main, and return main's address.

    The program's entry tells the C library where main is, in the first argument of a call. It is
    the first function of the program's own that is handed on so; no symbol is needed.

    Raises:
        NoMainError: the program has ended before.
    """
    vm = program.vm
    own = program.modules.around(program.entry)
    code = own.code if own is not None else Range(0, 0)
    found: list[int] = []

    def on_branch(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> VMAction:
        if found or gpr.rdi not in code:
            return VMAction.CONTINUE
        found.append(gpr.rdi)
        vm.addCodeAddrCB(gpr.rdi, pydbi.PREINST, on_main, None)
        return VMAction.BREAK_TO_VM

    def on_main(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> VMAction:
        return VMAction.STOP

    vm.addInstrumentedRange(code.start, code.end)
    for mnemonic in ("CALL*", "JMP*"):
        vm.addMnemonicCB(mnemonic, pydbi.PREINST, on_branch, None)
    if program.run() is not None:
        raise NoMainError("the program has ended before main, or has none")
    vm.deleteAllInstrumentations()
    vm.removeAllInstrumentedRanges()
    return found[0]


def preload(script: str, command: Sequence[str]) -> int:
    """Run *command* up to main, and a script's ``pyqbdipreload_on_run`` from there.

    This process is given to the program: to be called where nothing else is to be done.

    Returns:
        The program's exit status, or -signal; 1 if the script has failed; 126 or 127 if the program
        cannot be loaded.

    Raises:
        NoMainError: it does not come to main.
    """
    _keep_streams()
    try:
        program = Program(command, own_process=True)
    except OSError as error:
        return report_not_loaded(Messages("preload"), error)
    start = run_to_main(program)
    vm = program.vm
    rsp = vm.getGPRState().rsp
    stop = readRword(rsp)
    _instrument(program)
    program.on_load(lambda program, module: _add(program, module))
    pydbi.__preload__ = True
    process = os.getpid()
    try:
        with program.entered():
            on_run = _function_of(script, command)
            on_run(vm, start, stop)
            if program.status is None:
                _finish(vm, stop, rsp + _WORD)
        status = program.status or 0
    except BaseException as error:
        status = _status_of(error)
    if os.getpid() == process:
        atexit._run_exitfuncs()  # scripts write what they have gathered there
    return status


def _function_of(script: str, command: Sequence[str]) -> Callable[..., Any]:
    """Execute *script* and return its ``pyqbdipreload_on_run``.

    Raises:
        ScriptError: it has none.
        BaseException: what the script raises.
    """
    found = getattr(execute_script(script, command), _FUNCTION, None)
    if not callable(found):
        raise ScriptError(f"{script} defines no function {_FUNCTION}(vm, start, stop)")
    function: Callable[..., Any] = found
    return function


def _status_of(error: BaseException) -> int:
    """Report what has come out of a script, and return the exit status; -signal for a signal."""
    if isinstance(error, BrokenPipeError):
        return -signal.SIGPIPE
    if isinstance(error, SystemExit) and isinstance(error.code, (int, type(None))):
        return (error.code or 0) & 0xFF
    if isinstance(error, SystemExit):
        report("preload", str(error.code))
    elif isinstance(error, (ScriptError, pydbi.GuestFault)):
        report("preload", first_line(error))
    else:
        report("preload", f"the script has failed:\n{failure(error).rstrip()}")
    return -error.signal if isinstance(error, pydbi.GuestFault) else 1


def _keep_streams() -> None:
    """Let Python print where it does now, though the program may close or redirect 1 and 2."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        with suppress(OSError):  # it is closed already
            stream = os.fdopen(move_high(number), "w", buffering=1, errors="backslashreplace")
            setattr(sys, name, stream)


def _instrument(program: Program) -> None:
    for module in list(program.modules):
        _add(program, module)


def _add(program: Program, module: Module) -> None:
    """Instrument a module, unless it is the C library's."""
    if not module.name.startswith(_RUNTIME):
        program.vm.addInstrumentedRange(module.code.start, module.code.end)


def _finish(vm: pydbi.VM, stop: int, rsp: int) -> None:
    """Let the program end by itself; if main has not come to its end, it returns 0 now."""
    vm.deleteAllInstrumentations()
    vm.instrumentAllExecutableMaps()
    gpr = vm.getGPRState()
    if gpr.rip != stop:
        gpr.rip, gpr.rsp, gpr.rax = stop, rsp, 0
    vm.run(gpr.rip, _NOWHERE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; unless it is wrong, this process ends as the program does."""
    script, *command = list(sys.argv[1:] if arguments is None else arguments) or [""]
    if script in ("-h", "--help"):
        print(_USAGE)
        return 0
    if command[:1] == ["--"]:
        del command[0]
    if not command or not os.path.isfile(script):
        problem = f"there is no script {script}" if script and command else "no program given"
        report("preload", f"error: {problem} (--help tells more)")
        return _WRONG
    try:
        leave(preload(script, command))
    except pydbi.PydbiError as error:
        report("preload", first_line(error))
        leave(1)


if __name__ == "__main__":
    sys.exit(main())
