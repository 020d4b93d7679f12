"""``pydbi attach``: run a script inside a running process.

A new thread of the process loads this Python's shared library and executes the script, which can
put hooks on the process's functions (`pydbi.hook`). They stay when the script has come to its end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pydbi
from pydbi.tools.injection import Caller, Injection
from pydbi.tools.messages import report
from pydbi.tools.options import CommandParser, UsageError
from pydbi.tools.remote import AttachError, RemoteProcess
from pydbi.tools.tracee import borrow_thread

_SOURCE = """\
import sys
sys.path += [place for place in {path!r} if place not in sys.path]
from pydbi.tools.attached import run_script
run_script({script!r}, {arguments!r}, {{report}})
"""


def _parser() -> CommandParser:
    parser = CommandParser(
        "attach",
        description="Run a Python script inside a running process, on a thread of its own.",
        epilog="The script's output is the process's. The command ends when the script's last\n"
        "line is executed; hooks that it has made stay. Exit status: 1 if the script has\n"
        "raised an exception.",
    )
    parser.add_argument("pid", type=int, help="the process")
    parser.add_argument("script", help="path of the script")
    parser.add_argument("arguments", nargs="*", default=[], help="sys.argv[1:] of the script")
    parser.add_argument(
        "--injector",
        choices=["ptrace", "frida"],
        default="ptrace",
        help="how to get into the process; frida needs pip install 'pydbi[attach]'",
    )
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the script's end")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    return parser


def attach(
    pid: int,
    script: str,
    arguments: Sequence[str] = (),
    *,
    injector: str = "ptrace",
    wait: bool = True,
) -> str:
    """Run a script in another process.

    Args:
        injector: ``"ptrace"`` or ``"frida"``.
        wait: whether to return at the script's end, or when it has begun.

    Returns:
        The traceback with which the script has ended; empty if there is none.

    Raises:
        AttachError: that is not possible; the message says why.
    """
    if pid == os.getpid():
        raise AttachError("this is the very process: import the script")
    path = os.path.abspath(script)
    source = _SOURCE.format(path=_search_path(), script=path, arguments=list(arguments))
    process = RemoteProcess(pid)
    try:
        injection = Injection(process, source)
        with _way_in(process, injector) as caller:
            injection.start(caller)
        return injection.wait() if wait else ""
    finally:
        process.close()


@contextmanager
def _way_in(process: RemoteProcess, injector: str) -> Iterator[Caller]:
    if injector == "ptrace":
        with borrow_thread(process) as tracee:
            yield tracee
    else:
        from pydbi.tools.frida import open_session

        with open_session(process.pid) as session:
            yield session


def _search_path() -> list[str]:
    """Where this Python imports from; pydbi itself is there in any case."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(pydbi.__file__)))
    return list(dict.fromkeys([own, *(os.path.abspath(place) for place in sys.path if place)]))


def main(arguments: Sequence[str]) -> int:
    """Run the command with *arguments* and return the exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
        if not os.path.isfile(options.script):
            raise UsageError(f"there is no script {options.script}")
    except UsageError as error:
        parser.report(error)
        return 2
    try:
        failure = attach(
            options.pid,
            options.script,
            options.arguments,
            injector=options.injector,
            wait=not options.no_wait,
        )
    except AttachError as error:
        report("attach", str(error))
        return 1
    if failure:
        report("attach", f"the script has failed in process {options.pid}:\n{failure.rstrip()}")
        return 1
    if not options.quiet:
        state = "runs" if options.no_wait else "was run"
        report("attach", f"{options.script} {state} in process {options.pid}")
    return 0
