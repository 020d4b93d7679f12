"""Callback vectors: what a gate hands to ``PyObject_Vectorcall``, prepared once a callback."""

from __future__ import annotations

import ctypes
from typing import Any

from pydbi.jit.context import SLOT, VECTOR_SIZE
from pydbi.jit.guest import Guest

_WORDS = VECTOR_SIZE // 8
_NOTHING = object()
"""What a released vector holds: ctypes keeps the old object alive if it is replaced by None."""


class CallbackVectors:
    """The vectors of one guest thread, each `VECTOR_SIZE` bytes at an offset from slot VECTORS.

    They keep what machine code points to alive: the callables, their arguments, and the array.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._array: ctypes.Array[ctypes.py_object[Any]] = (ctypes.py_object * 0)()
        self._outgrown: list[ctypes.Array[ctypes.py_object[Any]]] = []
        self._count = 0
        self._free: list[int] = []
        self._retired: list[int] = []

    def add(self, callback: Any, vm: Any, data: Any) -> int:
        """Prepare a call of *callback* with (vm, gpr, fpr, data); return the vector's offset."""
        if self._free:
            place = self._free.pop()
        else:
            place = self._count
            self._count += _WORDS
            if self._count > len(self._array):
                self._grow()
        items = (callback, _NOTHING, vm, self._guest.gpr, self._guest.fpr, data)
        for word, item in enumerate(items, place):
            self._array[word] = ctypes.py_object(item)  # a ctypes object itself is refused
        return place * 8

    def _grow(self) -> None:
        # A gate may be reading from the old array: it is dropped when none is under way.
        grown = (ctypes.py_object * (2 * self._count))()
        for word in range(self._count - _WORDS):
            grown[word] = ctypes.py_object(self._array[word])
        self._outgrown.append(self._array)
        self._array = grown
        self._guest.words[SLOT["VECTORS"] >> 3] = ctypes.addressof(grown)

    def retire(self, offset: int) -> None:
        """Release the vector at *offset* as soon as no gate can be using it."""
        self._retired.append(offset // 8)

    def settle(self) -> None:
        """Release what was retired; to be called while the guest is not running."""
        self._outgrown.clear()
        for place in self._retired:
            for word in range(place, place + _WORDS):
                self._array[word] = ctypes.py_object(_NOTHING)
            self._free.append(place)
        self._retired.clear()
