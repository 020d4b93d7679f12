"""The guest's code as bytes: read without faulting, and only where it may be executed."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from signal import SIGSEGV

from pydbi.errors import GuestFault
from pydbi.host.maps import Mapping, read_mappings
from pydbi.jit.caught_pages import is_executable
from pydbi.jit.stubs import stubs
from pydbi.types import Permission

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
WINDOW = 96
"""Bytes handed out at first: most basic blocks are shorter, and a slice costs by its length."""
LONGEST_INSTRUCTION = 15

_SEGV_MAPERR = 1
_SEGV_ACCERR = 2
_SI_KERNEL = 128
_USER_END, _KERNEL_START = 1 << 47, (1 << 64) - (1 << 47)
_COPY_PAGES = 3
_overlays: dict[int, bytes] = {}


def overlay(address: int, original: bytes) -> None:
    """Let every guest of this process find *original* at *address*, whatever is written there.

    It is for jumps that pydbi itself writes into code; empty bytes take the overlay away.
    """
    if original:
        _overlays[address] = original
    else:
        _overlays.pop(address, None)


def _with_overlays(address: int, data: bytes) -> bytes:
    end = address + len(data)
    for place, original in list(_overlays.items()):
        low, high = max(place, address), min(place + len(original), end)
        if low < high:
            part = original[low - place : high - place]
            data = data[: low - address] + part + data[high - address :]
    return data


def _has_overlay(start: int, end: int) -> bool:
    return any(start - len(code) < place < end for place, code in list(_overlays.items()))


class AppMemory:
    """Reads app code, page by page, and remembers the pages that the guest cannot write.

    A page is executable if /proc/self/maps says so; what is not raises the fault that the CPU
    would raise. Pages both writable and executable are read anew each time.
    """

    def __init__(self) -> None:
        self._pages: dict[int, bytes] = {}
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []
        self._buffer = ctypes.create_string_buffer(_COPY_PAGES * PAGE_SIZE)
        self._buffer_address = ctypes.addressof(self._buffer)
        self._buffer_view = memoryview(self._buffer).cast("B")

    def read(self, app: int) -> bytes:
        """Return up to `WINDOW` bytes of code at *app*, at least 1, not beyond its page.

        Raises:
            GuestFault: nothing there, or nothing that may be executed.
        """
        page = self._pages.get(app >> PAGE_SHIFT)
        if page is None:
            page = self._load_page(app)
        offset = app & (PAGE_SIZE - 1)
        return page[offset : offset + WINDOW]

    def read_more(self, app: int, size: int) -> bytes:
        """Return up to *size* bytes at *app* across pages, ending where the code ends.

        Raises:
            GuestFault: nothing there, or nothing that may be executed.
        """
        parts: list[bytes] = []
        while size > 0:
            page = self._pages.get(app >> PAGE_SHIFT)
            if page is None:
                try:
                    page = self._load_page(app)
                except GuestFault:
                    if not parts:
                        raise
                    break
            offset = app & (PAGE_SIZE - 1)
            part = page[offset : offset + size]
            parts.append(part)
            app += len(part)
            size -= len(part)
        return b"".join(parts)

    def is_writable(self, app: int) -> bool:
        """Whether code that was just read at *app* lies on a page that is writable too."""
        return app >> PAGE_SHIFT not in self._pages

    def read_data(self, address: int, size: int) -> bytes | None:
        """Return *size* readable bytes (at most two pages), or None if some cannot be read."""
        if size > len(self._buffer) or stubs().safe_copy(self._buffer_address, address, size):
            return None
        data = bytes(self._buffer_view[:size])
        return _with_overlays(address, data) if _overlays else data

    def write_data(self, address: int, data: bytes) -> bool:
        """Write *data* (at most two pages) and return whether that was possible."""
        self._buffer_view[: len(data)] = data
        return not stubs().safe_copy(address, self._buffer_address, len(data))

    def forget(self, low: int, high: int) -> None:
        """Read pages that overlap [*low*, *high*) anew when next asked for."""
        first, last = low >> PAGE_SHIFT, (high - 1) >> PAGE_SHIFT
        if last - first > len(self._pages):
            self._pages = {n: page for n, page in self._pages.items() if not first <= n <= last}
        else:
            for number in range(first, last + 1):
                self._pages.pop(number, None)
        self._starts = []

    def forget_all(self) -> None:
        """Read all pages anew when next asked for."""
        self._pages.clear()
        self._starts = []

    def module_of(self, app: int) -> tuple[int, int, str]:
        """Return (low, high, path) of the mapped file around *app*, or of its lone mapping."""
        mapping = self._mapping_of(app)
        if mapping is None:
            return app, app + 1, ""
        if not mapping.file:
            return mapping.start, mapping.end, mapping.path
        same = [m for m in self._mappings if m.path == mapping.path]
        return min(m.start for m in same), max(m.end for m in same), mapping.path

    def _load_page(self, app: int) -> bytes:
        mapping = self._mapping_of(app)
        if mapping is not None and not is_executable(mapping, app):
            mapping = self._refresh_and_find(app)  # it may have become executable since
        if _USER_END <= app < _KERNEL_START:  # not canonical: a general protection fault
            raise GuestFault(SIGSEGV, _SI_KERNEL, app, 0)
        start = app & -PAGE_SIZE
        if mapping is None or not is_executable(mapping, app):
            code = _SEGV_MAPERR if mapping is None else _SEGV_ACCERR
            raise GuestFault(SIGSEGV, code, app, app)
        page = self.read_data(start, PAGE_SIZE)
        if page is None:  # unmapped since, or beyond the end of its file
            raise GuestFault(SIGSEGV, _SEGV_MAPERR, app, app)
        # Comparing the bytes again and again would find what the overlay hides.
        changing = mapping.permission & Permission.PF_WRITE or mapping.shared
        if not changing or _has_overlay(start, start + PAGE_SIZE):
            self._pages[app >> PAGE_SHIFT] = page
        return page

    def _mapping_of(self, app: int) -> Mapping | None:
        return self._find(app) or self._refresh_and_find(app)

    def _find(self, app: int) -> Mapping | None:
        place = bisect_right(self._starts, app) - 1
        if place < 0:
            return None
        mapping = self._mappings[place]
        return mapping if app < mapping.end else None

    def _refresh_and_find(self, app: int) -> Mapping | None:
        self._mappings = read_mappings()
        self._starts = [mapping.start for mapping in self._mappings]
        return self._find(app)
