"""What `GPRState` and `FPRState` have in common."""

from __future__ import annotations

import ctypes
from typing import TypeVar

_S = TypeVar("_S", bound="State")


class State(ctypes.Structure):
    """Identity, copies, pickles, and no attributes beyond the registers."""

    __slots__ = ("owner",)
    owner: object
    """What the memory belongs to, if not to this object."""

    def __init__(self) -> None:
        super().__init__()

    __hash__ = object.__hash__  # by identity, which ctypes takes away

    def __copy__(self: _S) -> _S:
        return type(self).from_buffer_copy(self)

    def __deepcopy__(self: _S, _memo: dict[int, object]) -> _S:
        return type(self).from_buffer_copy(self)

    def __getstate__(self) -> tuple[str, bytes]:
        return "X86_64", bytes(self)

    def __setstate__(self, state: tuple[str, bytes]) -> None:
        architecture, content = state
        if architecture != "X86_64" or len(content) != ctypes.sizeof(self):
            raise ValueError(f"{len(content)} bytes of {architecture} are no {type(self).__name__}")
        ctypes.memmove(ctypes.addressof(self), content, len(content))

    def __reduce__(self: _S) -> tuple[type[_S], tuple[()], tuple[str, bytes]]:
        return type(self), (), self.__getstate__()
