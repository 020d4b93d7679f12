"""The guest's code as bytes, with the permissions that the guest believes in."""

from __future__ import annotations

from pydbi.host.libc import PROT_EXEC
from pydbi.host.maps import Mapping
from pydbi.jit.app_memory import PAGE_SIZE, AppMemory
from pydbi.program.address_space import AddressSpace
from pydbi.types import Permission

_PERMISSIONS = [Permission(bits) for bits in range(8)]
"""By ``PROT_`` values, which are the same bits."""
_LONGEST_PATH = 4096
"""Bytes of a path with its zero, at most (PATH_MAX)."""
LONGEST_ARGUMENT = 1 << 17
"""Bytes of an argument with its zero, at most (MAX_ARG_STRLEN)."""


class ProgramMemory(AppMemory):
    """What the guest has mapped, and nothing of the host's."""

    def __init__(self, space: AddressSpace) -> None:
        super().__init__()
        self._space = space

    def module_of(self, app: int) -> tuple[int, int, str]:
        """Return (low, high, path): within the region, that, so that one arena serves it all."""
        area = self._space.mappings.find(app)
        if area is None:
            return app, app + 1, ""
        if self._space.low <= app < self._space.high:
            return self._space.low, self._space.high, area.path
        return area.start, area.end, area.path

    def read_text(self, address: int, longest: int = _LONGEST_PATH) -> bytes | None:
        """Return the bytes at *address* up to a zero; None if they cannot be read, or no end."""
        text = b""
        while len(text) < longest:
            part = self.read_data(address, PAGE_SIZE - address % PAGE_SIZE)
            if part is None:
                return None
            before, found, _ = part.partition(b"\0")
            text += before
            if found:
                return text
            address += len(part)
        return None

    def _find(self, app: int) -> Mapping | None:
        area = self._space.mappings.find(app)
        if area is None:
            return None
        permission = area.protection
        if area.shared and permission & PROT_EXEC:
            permission |= 2  # it may be written through another mapping: its code is checked
        return Mapping(area.start, area.end, _PERMISSIONS[permission], area.offset, area.path)

    def _refresh_and_find(self, app: int) -> Mapping | None:
        return self._find(app)
