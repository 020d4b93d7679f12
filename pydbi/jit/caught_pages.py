"""Pages that the engine has made non-executable, so that native calls into them are caught.

The kernel's maps do not call them executable any more; for guests they are all the same.
"""

from __future__ import annotations

from contextlib import suppress

from pydbi.host.libc import PROT_EXEC, PROT_READ, PROT_WRITE
from pydbi.host.maps import Mapping, read_mappings
from pydbi.host.memory import protect_memory
from pydbi.types import Permission

_SHIFT = 12
_PROTECTIONS = (
    (Permission.PF_READ, PROT_READ),
    (Permission.PF_WRITE, PROT_WRITE),
    (Permission.PF_EXEC, PROT_EXEC),
)
_caught: dict[int, tuple[int, str]] = {}
"""By page number: what it was allowed before, as mprotect wants it, and the path of its file."""


def is_caught(address: int) -> bool:
    """Whether *address* lies on such a page."""
    return address >> _SHIFT in _caught


def is_executable(mapping: Mapping, address: int) -> bool:
    """Whether guests may execute what is mapped at *address*."""
    return bool(mapping.permission & Permission.PF_EXEC) or is_caught(address)


def executable_parts(mapping: Mapping) -> list[tuple[int, int]]:
    """Return (low, high) of what guests may execute of *mapping*.

    The kernel makes one mapping of caught pages and those that were never executable.
    """
    if mapping.permission & Permission.PF_EXEC:
        return [(mapping.start, mapping.end)]
    parts = [(max(low, mapping.start), min(high, mapping.end)) for low, high in ranges()]
    return [(low, high) for low, high in parts if low < high]


def catch(mapping: Mapping, low: int, high: int) -> list[int]:
    """Take the right to execute from the pages of *mapping* that overlap [*low*, *high*).

    Returns:
        The numbers of the pages that had it.
    """
    first, last = max(mapping.start, low) >> _SHIFT, (min(mapping.end, high) - 1) >> _SHIFT
    was = sum(value for flag, value in _PROTECTIONS if mapping.permission & flag)
    pages = [number for number in range(first, last + 1) if number not in _caught]
    if was & PROT_EXEC:
        # Entered before it is so: another thread may execute there.
        _caught.update(dict.fromkeys(pages, (was, mapping.path)))
        protect_memory(first << _SHIFT, (last + 1 - first) << _SHIFT, was & ~PROT_EXEC)
        return pages
    return []


def release(pages: list[int]) -> None:
    """Give it back to these pages, as far as they are still what they were."""
    mappings = read_mappings()
    for number in pages:
        protection, path = _caught.pop(number)
        address = number << _SHIFT
        if any(m.start <= address < m.end and m.path == path for m in mappings):
            with suppress(OSError):
                protect_memory(address, 1 << _SHIFT, protection)


def ranges() -> list[tuple[int, int]]:
    """Return (low, high) of all these pages, neighbours together, in ascending order."""
    found: list[tuple[int, int]] = []
    for number in sorted(_caught):
        low = number << _SHIFT
        if found and found[-1][1] == low:
            low = found.pop()[0]
        found.append((low, (number + 1) << _SHIFT))
    return found
