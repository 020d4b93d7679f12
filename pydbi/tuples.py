"""Named tuples that are made quickly: `typing.NamedTuple` takes an eighth of an import.

To a type checker this is `typing.NamedTuple`. That compiles source text for each class and looks
into each annotation, in 0.2 ms. Here the constructor is compiled when the first instance is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["NamedTuple"]

if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from _collections import _tuplegetter as field_getter

    class _Maker(type):
        """Makes the classes that have `NamedTuple` as their base: annotations are their fields."""

        def __new__(cls, name, bases, namespace):
            if bases == (tuple,) or NamedTuple not in bases:
                return super().__new__(cls, name, bases, namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: fields without a default follow fields that have one")
            for number, field in enumerate(fields):
                namespace[field] = field_getter(number, f"Field number {number}")
            namespace["_fields"] = namespace["__match_args__"] = fields
            namespace["_field_defaults"] = defaults
            namespace["__slots__"] = ()
            return super().__new__(cls, name, bases, namespace)

    class NamedTuple(tuple, metaclass=_Maker):
        """A tuple whose items have names; the same as `typing.NamedTuple` to who uses one."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012

        def __new__(cls, *items, **named):
            """Make the constructor of this class, and call it; it takes the place of this one."""
            names = ", ".join(cls._fields)
            tail = "," * (len(cls._fields) == 1)
            text = f"lambda _class, {names}: _new(_class, ({names}{tail}))"
            constructor = eval(text, {"_new": tuple.__new__, "__builtins__": {}})
            constructor.__defaults__ = tuple(cls._field_defaults.values())
            constructor.__name__ = "__new__"
            constructor.__qualname__ = f"{cls.__qualname__}.__new__"
            cls.__new__ = constructor
            return constructor(cls, *items, **named)

        @classmethod
        def _make(cls, items):
            made = tuple.__new__(cls, items)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, **named):
            made = self._make(map(named.pop, self._fields, self))
            if named:
                raise ValueError(f"Got unexpected field names: {list(named)!r}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        __replace__ = _replace

        def __repr__(self):
            items = ", ".join(f"{name}={item!r}" for name, item in self._asdict().items())
            return f"{type(self).__name__}({items})"

        def __getnewargs__(self):
            return tuple(self)
