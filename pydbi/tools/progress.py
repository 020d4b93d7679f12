"""A line on the terminal that shows that a long run goes on."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import Any

from pydbi.tools.messages import Messages

_BEGIN = 2.0
"""Seconds before the first sign of life."""
_PERIOD, _PLAIN_PERIOD = 0.2, 5.0
"""Seconds between signs: with rich, which replaces the line; and without, line after line."""


class Progress:
    """Shows how far a run has come, while somebody looks at a terminal.

    With rich (``pip install 'pydbi[terminal]'``) it is one line that changes, else a line now and
    then. Ask `is_due` often: it looks at the clock, and is mostly False.

    Args:
        messages: where it is shown, and whether.

    Attributes:
        shown: whether anything is to be shown.
    """

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self.shown = messages.wanted and messages.is_terminal
        self._begin = monotonic()
        self._next = self._begin + _BEGIN
        self._live: Any = None

    def is_due(self) -> bool:
        """Whether it is time to `show` how far the run is."""
        return self.shown and monotonic() >= self._next

    def show(self, done: str) -> None:
        """Show what is *done*, and since when the run goes on."""
        now = monotonic()
        text = f"{done}, {now - self._begin:.0f} s"
        if self._live is None:
            self._live = _live_line(self._messages) or False
        if self._live:
            self._next = now + _PERIOD
            with suppress(OSError):  # the terminal has gone
                line = self._live.console.render_str(text, highlight=False)
                self._live.update(line, refresh=True)
        else:
            self._next = now + _PLAIN_PERIOD
            self._messages.say(text)

    def hide(self) -> None:
        """Take the line away until it is shown again."""
        if self._live:
            with suppress(OSError):
                self._live.stop()
            self._live = None

    def end(self) -> None:
        """Take the line away."""
        self.hide()
        self.shown = False

    def leave_to_parent(self) -> None:
        """Show nothing more in a forked child; the line is its parent's."""
        self.shown, self._live = False, None


def _live_line(messages: Messages) -> Any:
    """Return rich's display of a line, started; None without rich."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return None
    # It refreshes when told to: a thread of its own would be one more in the program's process.
    console = Console(file=messages.open())
    live = Live(console=console, auto_refresh=False, transient=True)
    live.start()
    console.show_cursor(True)  # what is killed cannot do that
    return live
