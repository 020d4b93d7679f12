"""The way into another process by Frida, where ptrace is not permitted but Frida's agent is.

Frida is an optional dependency; only calling functions is left to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydbi.tools.remote import AttachError

# Arguments and results are text: JavaScript's numbers have 53 bits.
_AGENT = """
const WORDS = ['uint64', 'uint64', 'uint64', 'uint64', 'uint64', 'uint64'];
rpc.exports = {
  call(address, words) {
    const f = new NativeFunction(ptr(address), 'uint64', WORDS);
    return f(...words.map(word => uint64(word))).toString();
  }
};
"""


class FridaSession:
    """A process that Frida's agent is in."""

    def __init__(self, session: Any) -> None:
        self._script = session.create_script(_AGENT)
        self._script.load()

    def call(self, function: int, *arguments: int) -> int:
        """Call a function of the process with up to six integers and return its result."""
        words = [str(value) for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
        return int(self._script.exports_sync.call(hex(function), words))


@contextmanager
def open_session(pid: int) -> Iterator[FridaSession]:
    """Put Frida's agent into a process, and take it out at the end.

    Raises:
        AttachError: Frida is not installed, or cannot do it.
    """
    try:
        import frida
    except ImportError:
        raise AttachError("Frida is not installed: pip install 'pydbi[attach]'") from None
    try:
        session = frida.attach(pid)
    except Exception as error:  # frida's own classes, which differ between its versions
        raise AttachError(f"Frida cannot attach to process {pid}: {error}") from error
    try:
        yield FridaSession(session)
    finally:
        session.detach()
