"""Which code is instrumented."""

from __future__ import annotations

from pydbi.host.maps import Mapping, read_mappings
from pydbi.jit.caught_pages import executable_parts
from pydbi.jit.engine import Engine
from pydbi.types import Range
from pydbi.vm.arguments import as_address

USER_SPACE_END = 1 << 47


class InstrumentedCode:
    """VM's methods about what is instrumented."""

    _engine: Engine

    def addInstrumentedRange(self, start: int, end: int) -> None:
        """Instrument the instructions that lie wholly in [*start*, *end*)."""
        self._engine.add_range(as_address(start), as_address(end))

    def removeInstrumentedRange(self, start: int, end: int) -> None:
        """Stop instrumenting [*start*, *end*); it is translated all the same."""
        self._engine.remove_range(as_address(start), as_address(end))

    def removeAllInstrumentedRanges(self) -> None:
        """Stop instrumenting anything."""
        self._engine.remove_range(0, 1 << 64)

    def addInstrumentedModule(self, name: str) -> bool:
        """Instrument the executable maps of the file *name*; False if there are none."""
        return self._add(_maps_named(name))

    def addInstrumentedModuleFromAddr(self, addr: int) -> bool:
        """Instrument the executable maps of the file around *addr*; False if there are none."""
        return self._add(_maps_around(as_address(addr)))

    def instrumentAllExecutableMaps(self) -> bool:
        """Instrument every executable map but the host's own; False if there is none.

        What Python runs on stays native: libpython, the executable, ctypes, libffi, the heap's
        functions. libc is instrumented; docs/design/limits.md says what to mind then. The vsyscall
        page is left out, which no 32-bit displacement reaches.
        """
        return self._add([part for _, part in _executable_maps()])

    def removeInstrumentedModule(self, name: str) -> bool:
        """Stop instrumenting the file *name*; False if it is not mapped."""
        return self._remove(_maps_named(name))

    def removeInstrumentedModuleFromAddr(self, addr: int) -> bool:
        """Stop instrumenting the file around *addr*; False if there is none."""
        return self._remove(_maps_around(as_address(addr)))

    def _add(self, maps: list[Range]) -> bool:
        for part in maps:
            self._engine.add_range(part.start, part.end)
        return bool(maps)

    def _remove(self, maps: list[Range]) -> bool:
        for part in maps:
            self._engine.remove_range(part.start, part.end)
        return bool(maps)


def _executable_maps() -> list[tuple[Mapping, Range]]:
    """Return what guests may execute, and of which mapping it is."""
    return [
        (mapping, Range(low, high))
        for mapping in read_mappings()
        for low, high in executable_parts(mapping)
        if high <= USER_SPACE_END
    ]


def _maps_named(name: str) -> list[Range]:
    if not isinstance(name, str):
        raise TypeError(f"a file's name is due, not {name!r}")
    return [part for m, part in _executable_maps() if m.path and m.path.rpartition("/")[2] == name]


def _maps_around(address: int) -> list[Range]:
    path = next((m.path for m in read_mappings() if m.start <= address < m.end), "")
    return [
        part
        for m, part in _executable_maps()
        if (m.path == path if path else m.start <= address < m.end)
    ]
