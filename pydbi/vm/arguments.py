"""What the methods of VM accept, and what they say about anything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydbi.enums.integers import signed, unsigned
from pydbi.types import InstPosition

_T = TypeVar("_T")


def as_address(value: int) -> int:
    """Return *value* if it is an address; TypeError otherwise, as PyQBDI."""
    return unsigned(value, "address")


def as_priority(value: int) -> int:
    """Return *value* if it is a priority, which PyQBDI holds in 32 bits; TypeError otherwise."""
    return signed(value, "priority", 32)


def as_identity(value: int) -> int:
    """Return *value* if it can be a callback's id; TypeError otherwise."""
    return unsigned(value, "id", 32)


def as_words(values: Sequence[int]) -> Sequence[int]:
    """Return *values* if they are a sequence that may hold integers; TypeError otherwise."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f"arguments are a sequence of integers, not {values!r}")
    return values


def not_a_word(value: int, what: str) -> TypeError:
    """Return the error that says so."""
    return TypeError(f"{what} {value!r} is no unsigned 64-bit integer")


def as_position(pos: InstPosition) -> InstPosition:
    """Return *pos* if it is PREINST or POSTINST; TypeError otherwise."""
    if pos is not InstPosition.PREINST and pos is not InstPosition.POSTINST:
        raise TypeError(f"PREINST or POSTINST is due, not {pos!r}")
    return pos


def as_callable(cbk: Callable[..., Any]) -> Callable[..., Any]:
    """Return *cbk* if it can be called; TypeError otherwise."""
    if not callable(cbk):
        raise TypeError(f"a callback is called: {cbk!r} cannot be")
    return cbk


def as_kind(value: _T, kind: type[_T]) -> _T:
    """Return *value* if it is a *kind*; TypeError otherwise."""
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} is due, not {value!r}")
    return value
