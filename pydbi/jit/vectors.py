"""Callback vectors: what a gate hands to ``PyObject_Vectorcall``, prepared once a callback."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from pydbi.host.memory import map_memory, unmap_memory, view
from pydbi.jit.arena import CacheFull
from pydbi.jit.context import SLOT, VECTOR_SIZE, VECTORCALL_OFFSET
from pydbi.jit.guest import Guest
from pydbi.tuples import NamedTuple
from pydbi.types import VMAction

_CAPACITY = 1 << 20
_SIZE = _CAPACITY * VECTOR_SIZE
"""Address space reserved; the kernel gives memory to the pages that are used."""


def _go_on(*_arguments: object) -> VMAction:
    return VMAction.CONTINUE


class _Region:
    """The vectors of one guest thread, each `VECTOR_SIZE` bytes at an offset from slot VECTORS."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.address = map_memory(_SIZE)
        self.words = view(self.address, _SIZE).cast("Q")
        guest.words[SLOT["VECTORS"] >> 3] = self.address


class _Attached(NamedTuple):
    """A thread beside, or after, which there are others."""

    region: _Region
    through: Callable[[Callable[..., Any]], Callable[..., Any]]
    """Makes what the gates of this thread call instead of a callback."""
    alive: dict[int, tuple[Any, ...]]


class CallbackVectors:
    """The vectors of a guest's threads.

    They keep what machine code points to alive: the callables and their arguments.

    Attributes:
        guest: the first thread. Where its registers are among the arguments of `add`, the other
            threads' callbacks are given theirs.
        address: of the first thread's vectors.
    """

    def __init__(self, guest: Guest) -> None:
        self._region = _Region(guest)
        self.address = self._region.address
        self.guest = guest
        self._attached: list[_Attached] = []
        self._alive: dict[int, tuple[Any, ...]] = {}
        self._count = 0
        self._free: list[int] = []
        self._retired: list[int] = []

    def add(self, *call: Any) -> int:
        """Prepare a call of ``call[0]`` with the other items (at most five); return its offset.

        Raises:
            CacheFull: there are too many.
        """
        if self._free:
            offset = self._free.pop()
        else:
            if self._count == _CAPACITY:
                raise CacheFull
            offset = self._count * VECTOR_SIZE
            self._count += 1
        self._alive[offset] = call
        _write(self._region, offset, call)
        for attached in self._attached:
            self._write_attached(attached, offset)
        return offset

    def callback_of(self, offset: int) -> Any:
        """Return what the vector at *offset* calls."""
        return self._alive[offset][0]

    def silence(self, offset: int) -> None:
        """Let the vector at *offset* call nothing any more; gates go on to use it."""
        self._alive[offset] = (*self._alive[offset], _go_on)
        self._region.words[(offset >> 3) + 1] = id(_go_on)
        for attached in self._attached:
            attached.region.words[(offset >> 3) + 1] = id(_go_on)

    def retire(self, offset: int) -> None:
        """Release the vector at *offset* as soon as no gate can be using it."""
        self._retired.append(offset)

    def settle(self) -> None:
        """Release what was retired; to be called while the guest is not running."""
        while self._retired:
            offset = self._retired.pop()
            self._alive.pop(offset, None)
            for attached in self._attached:
                attached.alive.pop(offset, None)
            self._free.append(offset)

    # Several threads.

    def attach(
        self, guest: Guest, through: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        """Let the gates of *guest*, a thread among others, call what *through* makes of callbacks.

        What is called is given the registers of this guest.
        """
        region = self._region if guest is self._region.guest else _Region(guest)
        attached = _Attached(region, through, {})
        self._attached.append(attached)
        for offset in self._alive:
            self._write_attached(attached, offset)

    def detach(self, guest: Guest) -> None:
        """Forget a guest that does not run any more."""
        for attached in [a for a in self._attached if a.region.guest is guest]:
            self._attached.remove(attached)
            if attached.region is not self._region:
                unmap_memory(attached.region.address, _SIZE)

    def _write_attached(self, attached: _Attached, offset: int) -> None:
        first, guest = self._region.guest, attached.region.guest
        own = {id(first.gpr): guest.gpr, id(first.fpr): guest.fpr}
        callback, *arguments = self._alive[offset]
        call = attached.through(callback), *(own.get(id(item), item) for item in arguments)
        attached.alive[offset] = call
        _write(attached.region, offset, call)


def _write(region: _Region, offset: int, call: tuple[Any, ...]) -> None:
    count = len(call) - 1 | VECTORCALL_OFFSET
    words = array("Q", (count, id(call[0]), 0, *map(id, call[1:])))
    region.words[offset >> 3 : (offset >> 3) + len(words)] = words


def release_vectors(address: int) -> None:
    """Give back the memory of the vectors at *address*."""
    unmap_memory(address, _SIZE)
