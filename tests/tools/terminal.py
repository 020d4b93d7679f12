"""A command with a terminal as its standard error."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from tests.child import child_environment


def on_a_terminal(*arguments: str, status: int, without_rich: bool = False) -> str:
    """Run a command and return what is shown on its terminal; it must end with *status*.

    Progress is shown earlier and more often than it is to a user.
    """
    hide = "sys.modules['rich'] = sys.modules['rich.console'] = None; " if without_rich else ""
    code = (
        f"import sys; {hide}from pydbi.tools import progress; progress._BEGIN = 0.05; "
        "progress._PLAIN_PERIOD = 0.1; from pydbi.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env=child_environment(),
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(screen, 4096)
            except OSError:  # the other end is closed
                break
        assert process.wait(timeout=60) == status, shown
    os.close(screen)
    return shown.decode()
