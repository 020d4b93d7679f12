"""The two kinds of enumerations that PyQBDI has: named values, and flags.

Both are integers that know their name and print as PyQBDI's do, on every Python version. A value
without a name can be made too. Named values can be compared for equality only; flags are ordered,
and combine with ``|``, ``&``, ``^`` and ``~``. All other operations of ``int`` are TypeErrors.

PyQBDI's are no subclass of ``int``. It makes comparing and hashing ten times as fast here, and is
seen in ``isinstance`` and ``json`` only.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pydbi.enums.integers import Integer, unsigned

_N = TypeVar("_N", bound="Named")
_F = TypeVar("_F", bound="Flag")


class _EnumType(enum.EnumMeta):
    """Makes values of any unsigned 32-bit integer, and tells the members in the class's help."""

    def __call__(cls: type[_N], value: Integer) -> _N:  # type: ignore[misc,override]
        number = unsigned(value, cls.__name__, 32)
        member: _N | None = cls._value2member_map_.get(number)  # type: ignore[assignment]
        return cls._nameless(number) if member is None else member

    def __new__(metacls, *arguments: Any, **options: Any) -> _EnumType:
        cls = super().__new__(metacls, *arguments, **options)
        members: dict[str, Any] = dict(cls.__members__)
        if members:
            listed = (f"  {name} : {member.__doc__}" for name, member in members.items())
            cls.__doc__ = "\n\n".join((str(cls.__doc__), "Members:", *listed))
        return cls


class Named(enum.IntEnum, metaclass=_EnumType):
    """A value with a name. Members are written as pairs: integer, description."""

    _value_: int

    def __new__(cls, value: int, description: str = "") -> Named:
        member = int.__new__(cls, value)
        member._value_ = value
        member.__doc__ = description
        return member

    @classmethod
    def _nameless(cls: type[_N], value: int) -> _N:
        """Make a value that is no member."""
        member = int.__new__(cls, value)
        member._value_ = value
        member._name_ = "???"
        return member

    def _text(self) -> str:
        return self._name_

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self._text()}"

    def __repr__(self) -> str:
        return f"<{self}: {self._value_}>"

    def __format__(self, spec: str) -> str:
        return int.__format__(self, spec) if spec else str(self)

    def __bool__(self) -> bool:
        return True

    def __reduce_ex__(self, _protocol: object) -> tuple[type[Named], tuple[int]]:
        return type(self), (self._value_,)


def _refusal(name: str) -> Callable[..., Any]:
    """Make the method *name* for an operation that PyQBDI's enumerations do not have.

    ``int`` has it, so it must be refused. NotImplemented leaves the answer to a flag on the other
    side.
    """

    def refuse(self: Named, *others: object) -> Any:
        if others and isinstance(others[0], Flag):
            return NotImplemented
        raise TypeError(f"{type(self).__name__} has no {name}")

    return refuse


_BINARY = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift",
    "and", "or", "xor",
)  # fmt: skip
_OTHER = (
    "neg", "pos", "abs", "invert", "round", "trunc", "floor", "ceil",
    "lt", "le", "gt", "ge",
)  # fmt: skip

for _name in (*_BINARY, *(f"r{name}" for name in _BINARY), *_OTHER):
    setattr(Named, f"__{_name}__", _refusal(f"__{_name}__"))


def _combination(operation: Callable[[int, int], int]) -> Callable[[Flag, int], int]:
    """Make a method that combines two flags of a kind to a third, and others to an ``int``.

    It looks into the map of values itself, which is twice as fast as making one: callbacks test
    their event with ``&``.
    """

    def combine(self: Flag, other: int) -> int:
        value = operation(self, other)
        if type(other) is type(self):
            try:
                known: int = self._value2member_map_[value]  # type: ignore[attr-defined]
                return known
            except KeyError:
                return type(self)(value)
        return value

    return combine


class Flag(Named):
    """A set of bits; the empty one is false (in PyQBDI it is true, a defect).

    Not ``enum.IntFlag``: that one changed its operators, its printing and its treatment of
    unknown bits between Python 3.10 and 3.14, and an operation costs several times as much,
    which a callback that tests its event pays each time.
    """

    @classmethod
    def _nameless(cls: type[_F], value: int) -> _F:
        """Make a combination; those of known bits, of which there are few, once only."""
        member = super()._nameless(value)
        if not value & ~cls._known_bits():
            cls._value2member_map_[value] = member
        return member

    @classmethod
    def _known_bits(cls) -> int:
        known = 0
        for member in cls:
            known |= member._value_
        return known

    def _text(self) -> str:
        if self._name_ != "???":
            return self._name_
        value = self._value_
        names = [m._name_ for m in type(self) if m._value_.bit_count() == 1 and m._value_ & value]
        return "|".join(names) or ("???" if value else "0")

    __bool__ = int.__bool__
    __lt__, __le__, __gt__, __ge__ = int.__lt__, int.__le__, int.__gt__, int.__ge__
    __rand__, __ror__, __rxor__ = int.__rand__, int.__ror__, int.__rxor__

    if TYPE_CHECKING:

        @overload
        def __and__(self: _F, other: _F) -> _F: ...
        @overload
        def __and__(self, other: int) -> int: ...
        def __and__(self, other: int) -> int: ...

        @overload
        def __or__(self: _F, other: _F) -> _F: ...
        @overload
        def __or__(self, other: int) -> int: ...
        def __or__(self, other: int) -> int: ...

        @overload
        def __xor__(self: _F, other: _F) -> _F: ...
        @overload
        def __xor__(self, other: int) -> int: ...
        def __xor__(self, other: int) -> int: ...
    else:
        __and__ = _combination(int.__and__)
        __or__ = _combination(int.__or__)
        __xor__ = _combination(int.__xor__)

    def __invert__(self: _F) -> _F:
        """The flags of the enumeration that are not in this one; unknown bits stay."""
        return type(self)(self._known_bits() ^ self._value_)
