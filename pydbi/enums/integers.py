"""What PyQBDI takes for an integer: whatever converts to one, but no float and no text."""

from __future__ import annotations

from operator import index
from typing import SupportsIndex, SupportsInt

Integer = SupportsInt | SupportsIndex


def integer(value: object, what: str = "value") -> int:
    """Return *value* as an ``int``.

    Raises:
        TypeError: it is a float, or does not convert to an integer; the message begins with *what*.
    """
    try:
        return int(index(value))  # type: ignore[arg-type]  # its error is what is asked for
    except TypeError:
        convert = getattr(type(value), "__int__", None)
        if convert is None or isinstance(value, float):
            raise TypeError(f"{what} must be an integer, not {value!r}") from None
        return int(convert(value))


def unsigned(value: object, what: str = "value", bits: int = 64) -> int:
    """Return *value* as an ``int``; TypeError if it is no unsigned integer of so many bits."""
    number = value if type(value) is int else integer(value, what)
    if number >> bits:  # not 0 for a negative number either
        raise TypeError(f"{what} must be an unsigned {bits}-bit integer, not {number}")
    return number


def signed(value: object, what: str = "value", bits: int = 64) -> int:
    """Return *value* as an ``int``; TypeError if it is no signed integer of so many bits."""
    number = integer(value, what)
    if not -1 << bits - 1 <= number < 1 << bits - 1:
        raise TypeError(f"{what} must be a signed {bits}-bit integer, not {number}")
    return number
