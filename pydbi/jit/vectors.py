"""Callback vectors: what a gate hands to ``PyObject_Vectorcall``, prepared once a callback."""

from __future__ import annotations

from array import array
from typing import Any

from pydbi.host.memory import map_memory, unmap_memory, view
from pydbi.jit.cache import CacheFull
from pydbi.jit.context import SLOT, VECTOR_SIZE, VECTORCALL_OFFSET
from pydbi.jit.guest import Guest
from pydbi.types import VMAction

_CAPACITY = 1 << 20
_SIZE = _CAPACITY * VECTOR_SIZE
"""Address space reserved; the kernel gives memory to the pages that are used."""


def _go_on(*_arguments: object) -> VMAction:
    return VMAction.CONTINUE


class CallbackVectors:
    """The vectors of one guest thread, each `VECTOR_SIZE` bytes at an offset from slot VECTORS.

    They keep what machine code points to alive: the callables and their arguments.
    """

    def __init__(self, guest: Guest) -> None:
        self.address = map_memory(_SIZE)
        self._words = view(self.address, _SIZE).cast("Q")
        self._alive: dict[int, tuple[Any, ...]] = {}
        self._count = 0
        self._free: list[int] = []
        self._retired: list[int] = []
        guest.words[SLOT["VECTORS"] >> 3] = self.address

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
        count = len(call) - 1 | VECTORCALL_OFFSET
        words = array("Q", (count, id(call[0]), 0, *map(id, call[1:])))
        self._words[offset >> 3 : (offset >> 3) + len(words)] = words
        return offset

    def callback_of(self, offset: int) -> Any:
        """Return what the vector at *offset* calls."""
        return self._alive[offset][0]

    def silence(self, offset: int) -> None:
        """Let the vector at *offset* call nothing any more; gates go on to use it."""
        self._alive[offset] = (*self._alive[offset], _go_on)
        self._words[(offset >> 3) + 1] = id(_go_on)

    def retire(self, offset: int) -> None:
        """Release the vector at *offset* as soon as no gate can be using it."""
        self._retired.append(offset)

    def settle(self) -> None:
        """Release what was retired; to be called while the guest is not running."""
        while self._retired:
            offset = self._retired.pop()
            self._alive.pop(offset, None)
            self._free.append(offset)


def release_vectors(address: int) -> None:
    """Give back the memory of the vectors at *address*."""
    unmap_memory(address, _SIZE)
