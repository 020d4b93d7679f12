"""A line on the terminal that shows that a long run goes on."""

from __future__ import annotations

from time import monotonic
from typing import Any

from pydbi.tools.options import Messages

_BEGIN = 2.0
"""Seconds before the first sign of life."""
_PERIOD, _PLAIN_PERIOD = 0.2, 5.0
"""Seconds between signs: with rich, which replaces the line; and without, line after line."""


class Progress:
    """Shows how far a run has come, while somebody looks at a terminal.

    With rich (``pip install 'pydbi[terminal]'``) it is one line that changes, else a line now and
    then. Call `show` often: it looks at the clock, and mostly does nothing.

    Args:
        messages: where it is shown, and whether.
        what: what is counted: ``"instructions"``.
    """

    def __init__(self, messages: Messages, what: str) -> None:
        self._messages = messages
        self._what = what
        self._shown = messages.wanted and messages.is_terminal
        self._begin = monotonic()
        self._next = self._begin + _BEGIN
        self._live: Any = None

    def show(self, count: int) -> None:
        """Show that *count* of them are done, if it is time."""
        now = monotonic()
        if not self._shown or now < self._next:
            return
        text = f"{count:,} {self._what}, {now - self._begin:.0f} s"
        if self._live is None:
            self._live = _live_line(self._messages) or False
        if self._live:
            self._next = now + _PERIOD
            self._live.update(self._live.console.render_str(text, highlight=False), refresh=True)
        else:
            self._next = now + _PLAIN_PERIOD
            self._messages.say(text)

    def end(self) -> None:
        """Take the line away."""
        if self._live:
            self._live.stop()
        self._shown = False


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
    return live
