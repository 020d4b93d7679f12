"""The VMs that execute hooked functions."""

from __future__ import annotations

from threading import get_native_id

from pydbi.errors import PydbiError
from pydbi.hooks.waiting import calls_that_wait
from pydbi.host.maps import read_mappings
from pydbi.jit.context import GPR_OFFSET
from pydbi.jit.engine import Engine
from pydbi.jit.signals import prepare_thread
from pydbi.vm import VM

_RSP = GPR_OFFSET["rsp"] >> 3


class FrameLeftError(PydbiError):
    """The guest has left the hooked function's frame other than by returning.

    It was by longjmp or an exception, say, and it executes one of the callers now.
    """


class CallEngine(Engine):
    """An engine that executes one call at a time, and nothing beyond.

    Attributes:
        frame: rsp at the entry of the function that is being called.
    """

    frame = 0

    def translate(self, app: int, origin: int = 0, pad: bool = False) -> int:
        """Translate the block at *app*; see `Engine.translate`.

        Raises:
            FrameLeftError: it belongs to a caller of the function, which is to go on natively.
        """
        if self.guest.words[_RSP] > self.frame and self._is_on_stack(self.guest.words[_RSP]):
            raise FrameLeftError("the hooked function's frame is left", app_address=app)
        return super().translate(app, origin, pad)

    def _is_on_stack(self, rsp: int) -> bool:
        """Whether *rsp* is on the stack that the function was called on, not a coroutine's."""
        return any(m.start <= self.frame and rsp < m.end for m in read_mappings() if rsp >= m.start)


class CallVM(VM):
    """A VM for calls of one function, whose module is instrumented."""

    def __init__(self, function: int) -> None:
        super().__init__()
        self._thread = 0
        self.addInstrumentedModuleFromAddr(function)

    def prepare_thread(self) -> None:
        """Get the calling thread ready, which may be a new one, though its id was another's before.

        Python forgets a thread that it has not made itself after every call.
        """
        thread = get_native_id()
        if thread != self._thread:
            self._dispatcher.forget_thread()
            self._thread = thread
        prepare_thread()

    def _make_engine(self) -> Engine:
        self.engine = CallEngine(self, system_calls=calls_that_wait)
        return self.engine
