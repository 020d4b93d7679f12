"""Which files the guest has mapped as code, and which of them are instrumented."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydbi.program.mappings import Area, GuestMappings
from pydbi.tuples import NamedTuple
from pydbi.types import Range


class Module(NamedTuple):
    """A file that the guest has mapped as code."""

    name: str
    """Its base name."""
    path: str
    range: Range
    """Where it lies; mapped in part only, as long as the dynamic linker is at work."""
    code: Range
    """The executable part."""


class Modules:
    """Follows what the guest maps as code.

    Attributes:
        loaded, unloaded: called with each module that comes or goes, once `announce` was called.
        add_range, remove_range: called with what is to be instrumented, and no longer.
    """

    def __init__(self, mappings: GuestMappings) -> None:
        self._mappings = mappings
        self._modules: list[Module] = []
        self._unannounced: list[Module] | None = []
        self._names: set[str] = set()
        self.loaded: Callable[[Module], None] = lambda module: None
        self.unloaded: Callable[[Module], None] = lambda module: None
        self.add_range: Callable[[int, int], None] = lambda low, high: None
        self.remove_range: Callable[[int, int], None] = lambda low, high: None

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)

    def find(self, name: str) -> list[Module]:
        """Return the modules of that name."""
        return [module for module in self._modules if answers_to(module, name)]

    def around(self, address: int) -> Module | None:
        """Return the module that *address* lies in."""
        for module in self._modules:
            if address in module.range:
                return module
        return None

    def instrument(self, name: str) -> None:
        """Instrument the modules of that name, now and when they are loaded."""
        self._names.add(name)
        for module in self.find(name):
            self.add_range(module.code.start, module.code.end)

    def spare(self, name: str) -> bool:
        """Instrument the modules of that name no longer; return whether any was."""
        wanted = name in self._names
        self._names.discard(name)
        for module in self.find(name):
            self.remove_range(module.code.start, module.code.end)
            wanted = True
        return wanted

    def spare_all(self) -> None:
        """Instrument no module when it is loaded."""
        self._names.clear()

    def unload_all(self) -> None:
        """Notice that all code is gone."""
        for module in list(self._modules):
            self._drop(module)

    def announce(self) -> None:
        """Report the modules that are there; from now on, report others when they come."""
        waiting, self._unannounced = self._unannounced or [], None
        for module in waiting:
            self.loaded(module)

    def on_code(self, area: Area) -> None:
        """Notice that *area* has become executable."""
        if not area.path.startswith("/"):
            return
        low, high = self._extent(area)
        known = self.around(area.start)
        if known is not None and known.path == area.path:
            self._modules.remove(known)
            code = Range(min(known.code.start, area.start), max(known.code.end, area.end))
            low, high = min(low, known.range.start), max(high, known.range.end)
        else:
            known, code = None, Range(area.start, area.end)
        name = area.path.rpartition("/")[2]
        module = Module(name, area.path, Range(low, high), code)
        self._modules.append(module)
        if any(answers_to(module, wanted) for wanted in self._names):
            self.add_range(area.start, area.end)
        if known is None:
            if self._unannounced is not None:
                self._unannounced.append(module)
            else:
                self.loaded(module)

    def on_unmap(self, low: int, high: int) -> None:
        """Notice that code in [*low*, *high*) is gone."""
        for module in list(self._modules):
            code = module.code
            if code.start >= high or code.end <= low:
                continue
            if any(a.path == module.path for a in self._code_in(code.start, code.end)):
                continue
            self._drop(module)

    def _drop(self, module: Module) -> None:
        self._modules.remove(module)
        if any(answers_to(module, wanted) for wanted in self._names):
            self.remove_range(module.code.start, module.code.end)
        if self._unannounced is None:
            self.unloaded(module)
        elif module in self._unannounced:
            self._unannounced.remove(module)

    def _code_in(self, low: int, high: int) -> list[Area]:
        return [area for area in self._mappings.overlapping(low, high) if area.protection & 4]

    def _extent(self, area: Area) -> tuple[int, int]:
        """Return [low, high) of what is mapped of the file of *area* around it, without gaps."""
        low, high = area.start, area.end
        while (before := self._mappings.find(low - 1)) is not None and before.path == area.path:
            low = before.start
        while (behind := self._mappings.find(high)) is not None and behind.path == area.path:
            high = behind.end
        return low, high


def answers_to(module: Module, name: str) -> bool:
    """Whether *name* is the module's base name, or the soname that leads to it.

    libz.so.1 is the name to load libz.so.1.2.13 by.
    """
    return module.name == name or (".so" in name and module.name.startswith(f"{name}."))
