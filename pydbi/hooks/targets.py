"""From what the user names to the address of a function."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from pydbi.enums.integers import unsigned
from pydbi.hooks.errors import HookError
from pydbi.host.elf import ElfFile, symbolizer
from pydbi.host.maps import Mapping, read_mappings
from pydbi.tuples import NamedTuple
from pydbi.types import Permission

_RTLD_NOLOAD = 4  # <bits/dlfcn.h>: only what is loaded already


class Target(NamedTuple):
    """A function of this process."""

    address: int
    name: str
    """``module!symbol`` as far as they are known, else the address."""
    size: int
    """Bytes; 0 if unknown."""


def find_target(function: Any) -> Target:
    """Return the function that *function* names.

    Args:
        function: an address; a function of a `ctypes` library; ``"module!symbol"``, the module by
            its file's name, the symbol exported or not; or ``"symbol"`` alone.

    Raises:
        HookError: there is none, or several.
        TypeError: *function* is something else.
    """
    if isinstance(function, str):
        address = _find_by_name(function)
    elif hasattr(function, "restype"):
        address = _address_of(function)
    else:
        address = unsigned(function, "function")
    mapping = next((m for m in read_mappings() if m.start <= address < m.end), None)
    if mapping is None or not mapping.permission & Permission.PF_EXEC:
        what = "nothing is mapped there" if mapping is None else "it is not executable"
        raise HookError(f"there is no function at {address:#x}: {what}", app_address=address)
    location = symbolizer.locate(address)
    known = location.symbol is not None and not location.symbol_offset
    name = location.symbol if known else f"{location.module_offset:#x}"
    size = _size_of(mapping, address) if known else 0
    return Target(
        address, f"{location.module}!{name}" if location.module else f"{address:#x}", size
    )


def _address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _find_by_name(name: str) -> int:
    module, separator, symbol = name.rpartition("!")
    if separator:
        return _find_in_module(module, symbol)
    function = getattr(ctypes.CDLL(None), symbol, None)
    if function is not None:
        return _address_of(function)
    found = {path: _find_symbol(path, symbol) for path in _mapped_files()}
    places = [(path, address) for path, address in found.items() if address]
    if len(places) != 1:
        files = " and ".join(os.path.basename(path) for path, _ in places)
        where = f"in {files}: name the module, as in module!{symbol}" if places else "nowhere here"
        raise HookError(f"the function {symbol} is {where}")
    return places[0][1]


def _find_in_module(module: str, symbol: str) -> int:
    paths = [path for path in _mapped_files() if _is_called(path, module)]
    if not paths:
        raise HookError(f"no module {module} is loaded; a file name is due, as libc.so.6")
    for path in paths:
        address = _find_exported(path, symbol) or _find_symbol(path, symbol)
        if address:
            return address
    raise HookError(f"{module} has no function {symbol}")


def _is_called(path: str, module: str) -> bool:
    """Whether *module* is the file's path, its name, or its name without the last version."""
    name = os.path.basename(path)
    return module in (path, name) or name.startswith(f"{module}.")


def _mapped_files() -> list[str]:
    executable = Permission.PF_EXEC
    return list(
        dict.fromkeys(m.file for m in read_mappings() if m.file and m.permission & executable)
    )


def _find_exported(path: str, symbol: str) -> int:
    """Ask the dynamic linker, which knows what an indirect function (ifunc) has become."""
    try:
        function = getattr(ctypes.CDLL(path, mode=_RTLD_NOLOAD), symbol)
    except (OSError, AttributeError):
        return 0
    address = _address_of(function)
    # It looks in the libraries that this one needs, too.
    return address if any(m.start <= address < m.end for m in _mappings_of(path)) else 0


def _find_symbol(path: str, symbol: str) -> int:
    """Look into the file's own symbols; 0 if it has none of that name."""
    mappings = _mappings_of(path)
    elf = _read(path)
    if elf is None or not mappings:
        return 0
    bias = _bias(elf, mappings[0])
    return next((bias + known.value for known in elf if known.name == symbol), 0)


def _mappings_of(path: str) -> list[Mapping]:
    return [m for m in read_mappings() if m.path == path]


def _read(path: str) -> ElfFile | None:
    try:
        with open(path, "rb") as file:
            return ElfFile(file.read())
    except (OSError, ValueError):
        return None


def _bias(elf: ElfFile, mapping: Mapping) -> int:
    return mapping.start - (elf.virtual_address(mapping.offset) or 0)


def _size_of(mapping: Mapping, address: int) -> int:
    elf = _read(mapping.file) if mapping.file else None
    if elf is None:
        return 0
    known = elf.function_at(address - _bias(elf, mapping))
    return known.size if known else 0
