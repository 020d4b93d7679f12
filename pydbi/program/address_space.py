"""The memory of the guest: where its mappings are placed, and what it believes of them.

One region of the address space is reserved for the program, its libraries and whatever else is
code, so that all of it and the code cache reach each other with 32-bit displacements. What is
reserved there and not the guest's is mapped without any access. No page of the guest is
executable for the processor: PROT_EXEC is taken out of each request and only remembered here.
"""

from __future__ import annotations

from collections.abc import Callable

from pydbi.errors import CacheError
from pydbi.host.libc import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from pydbi.host.memory import map_memory, map_near, page_ceil
from pydbi.program.kernel import LOWEST_ERROR, call, note
from pydbi.program.mappings import Area, GuestMappings

SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_MREMAP = 9, 10, 11, 25
MAP_SHARED, MAP_TYPE, MAP_FIXED, MAP_32BIT, MAP_HUGETLB = 1, 0xF, 0x10, 0x40, 0x40000
MAP_GROWSDOWN = 0x100
_MREMAP_FIXED, _MREMAP_DONTUNMAP = 2, 4
_PROT_GROWSDOWN = 0x01000000
ENOMEM, EFAULT, EEXIST, EINVAL = 12, 14, 17, 22

_SLOTS = range(0x2000_0000_0000, 0x2100_0000_0000, 0x10_0000_0000)
"""Where regions begin, one per program that is alive: far from where the kernel maps anything."""
REGION_SIZE = 0x6000_0000
"""With an arena of the code cache on either side, less than 2 GiB."""
_FIXED_REGION_SIZE = 0x3000_0000
_BRK_DISTANCE, _BRK_SIZE = 0x1_0000_0000, 0x4_0000_0000
_BESIDE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
_HOLE = _BESIDE | MAP_FIXED
_USER_END = 1 << 47
SHARED_WITH_HOST = ("[vdso]", "[vvar]", "[vvar_vclock]")
"""What the kernel gives every process once; the guest uses this process's."""


def without_execution(protection: int) -> int:
    """Return what the kernel is asked for in place of *protection*: code is read, not executed."""
    if protection & PROT_EXEC:
        return protection & ~PROT_EXEC | PROT_READ
    return protection


class AddressSpace:
    """The guest's.

    Attributes:
        mappings: what the guest has mapped.
        low, high: the region; with a program linked at a fixed address, that included.
        most, most_data: bytes that it may have altogether, and of private writable memory
            (RLIMIT_AS and RLIMIT_DATA); None: as many as there are.
        forget: called with (low, high) before code there goes or changes.
        on_code: called with an area that became executable.
        on_unmap: called with (low, high) when something executable was unmapped there.
    """

    def __init__(self, fixed: tuple[int, int] | None = None) -> None:
        """Reserve the region; if *fixed* is given, near those addresses."""
        self.mappings = GuestMappings()
        self.forget: Callable[[int, int], None] = lambda low, high: None
        self.on_code: Callable[[Area], None] = lambda area: None
        self.on_unmap: Callable[[int, int], None] = lambda low, high: None
        self.most: int | None = None
        self.most_data: int | None = None
        self._reserved: list[tuple[int, int]] = []
        self._reserve(fixed)

    def replace(self, fixed: tuple[int, int] | None) -> None:
        """Unmap everything, and reserve a region for another program."""
        self.release()
        self._reserve(fixed)

    def _reserve(self, fixed: tuple[int, int] | None) -> None:
        slot = self._reserve_slot(_FIXED_REGION_SIZE if fixed else REGION_SIZE)
        self._region_low, self._region_high = slot, slot + REGION_SIZE
        if fixed:
            self._region_low = map_near(*fixed, _FIXED_REGION_SIZE, PROT_NONE)
            self._region_high = self._region_low + _FIXED_REGION_SIZE
            self._reserved.append((self._region_low, self._region_high))
        self.low = min(self._region_low, fixed[0]) if fixed else self._region_low
        self.high = max(self._region_high, fixed[1]) if fixed else self._region_high
        self._break_start = self._break = self._break_limit = 0
        self._reserve_heap(slot + _BRK_DISTANCE)

    def _reserve_slot(self, size: int) -> int:
        for slot in _SLOTS:
            try:
                map_memory(size, PROT_NONE, slot, fixed_noreplace=True)
            except FileExistsError:
                continue
            self._reserved.append((slot, slot + size))
            return slot
        raise CacheError("too many programs are loaded at once: close some")

    def _reserve_heap(self, address: int) -> None:
        size = _BRK_SIZE
        while True:
            try:
                map_memory(size, PROT_NONE, address, fixed_noreplace=True)
                break
            except OSError:  # a limit on the address space
                size //= 4
                if size < 1 << 20:
                    raise
        self._reserved.append((address, address + size))
        self._break_start = self._break = address
        self._break_limit = address + size

    # The guest's requests. They return what the kernel would: a result, or -errno.

    def map(
        self,
        address: int,
        size: int,
        protection: int,
        flags: int,
        descriptor: int = -1,
        offset: int = 0,
        path: str = "",
    ) -> int:
        """mmap; *path* is that of the file, or a name of the kernel's kind."""
        length = page_ceil(size)
        if not 0 < length < _USER_END:
            return -EINVAL if not length else -ENOMEM
        if not self.may_grow(length, protection, flags & MAP_TYPE != MAP_PRIVATE):
            return -ENOMEM
        if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
            if address & 4095:
                return -EINVAL
            refused = self._claim(address, address + length, flags)
            if refused:
                return refused
            flags = flags & ~MAP_FIXED_NOREPLACE | MAP_FIXED
        else:
            place = self._place(address, length, protection, flags, bool(path))
            if place:
                address, flags = place, flags | MAP_FIXED
        if flags & MAP_FIXED and self.mappings.is_executable(address, address + length):
            self.forget(address, address + length)
            self.on_unmap(address, address + length)
        asked = without_execution(protection)
        result = call(SYS_MMAP, address, size, asked, flags, descriptor, offset)
        if LOWEST_ERROR <= result < 0:
            return result
        shared = flags & MAP_TYPE != MAP_PRIVATE
        area = Area(result, result + length, protection & 7, path, offset if path else 0, shared)
        self.mappings.add(area)
        if protection & PROT_EXEC:
            self.on_code(area)
        return result

    def unmap(self, address: int, size: int) -> int:
        """Munmap. What the guest does not have mapped stays as it is."""
        length = page_ceil(size)
        if address & 4095 or not length or address + length > _USER_END:
            return -EINVAL
        end = address + length
        executable = self.mappings.is_executable(address, end)
        if executable:
            self.forget(address, end)
        for area in self.mappings.overlapping(address, end):
            result = self._release(area.start, area.end)
            if result < 0:
                return result
        self.mappings.remove(address, end)
        if executable:
            self.on_unmap(address, end)
        return 0

    def protect(self, address: int, size: int, protection: int, key: int | None = None) -> int:
        """Mprotect; pkey_mprotect if *key* is given."""
        length = page_ceil(size)
        if address & 4095 or address + length > _USER_END:
            return -EINVAL
        end = address + length
        if protection & _PROT_GROWSDOWN:  # which the kernel would refuse: our stacks do not grow
            area = self.mappings.find(address)
            address = area.start if area else address
            protection &= ~_PROT_GROWSDOWN
        gaps = self.mappings.gaps(address, end) if length else []
        end = gaps[0][0] if gaps else end
        if end > address:
            if self.mappings.is_executable(address, end):
                self.forget(address, end)
            asked = without_execution(protection)
            number, more = (SYS_MPROTECT, ()) if key is None else (329, (key,))
            result = call(number, address, end - address, asked, *more)
            if result < 0:
                return result
            self.mappings.protect(address, end, protection & 7)
            if protection & PROT_EXEC:
                for area in self.mappings.overlapping(address, end):
                    self.on_code(area)
        return -ENOMEM if gaps else 0

    def remap(self, old: int, old_size: int, new_size: int, flags: int, new: int) -> int:
        """Mremap."""
        old_length, new_length = page_ceil(old_size), page_ceil(new_size)
        source = self.mappings.find(old)
        if old & 4095 or not new_length:
            return -EINVAL
        if source is None or self.mappings.gaps(old, old + old_length):
            return -EFAULT
        if flags & _MREMAP_FIXED:
            refused = self._claim(new, new + new_length, MAP_FIXED)
            if refused:
                return refused
            self._forget_code(new, new + new_length)
        grown = new_length - old_length
        if grown > 0 and not self.may_grow(grown, source.protection, source.shared):
            return -ENOMEM
        self._forget_code(old, old + max(old_length, 1))
        moved = self.mappings.overlapping(old, old + old_length)
        result = call(SYS_MREMAP, old, old_size, new_size, flags, new)
        if LOWEST_ERROR <= result < 0:
            return result
        if old_length and not flags & _MREMAP_DONTUNMAP:
            self.mappings.remove(old, old + old_length)
            self._fill(old, old + old_length, result, result + new_length)
        self.mappings.remove(result, result + new_length)
        for area in moved or [source.clipped(old, old + 4096)]:
            place = area.start - old + result
            if place < result + new_length:
                end = min(area.end - old + result, result + new_length)
                self.mappings.add(area._replace(start=place, end=end))
        last = self.mappings.find(result + min(old_length or 4096, new_length) - 1)
        if last is not None and last.end < result + new_length:
            self.mappings.add(last._replace(end=result + new_length))
        return result

    def set_break(self, address: int) -> int:
        """Brk; what is given back is zero when it is taken again."""
        if not self._break_start <= address <= self._break_limit:
            return self._break
        old_end, new_end = page_ceil(self._break), page_ceil(address)
        protection = PROT_READ | PROT_WRITE
        if new_end > old_end:
            if not self.may_grow(new_end - old_end, protection, False):
                return self._break
            if call(SYS_MPROTECT, old_end, new_end - old_end, protection) < 0:
                return self._break
            self.mappings.add(Area(old_end, new_end, protection, "[heap]"))
        elif new_end < old_end:
            self._forget_code(new_end, old_end)
            call(SYS_MMAP, new_end, old_end - new_end, PROT_NONE, _HOLE, -1, 0)
            self.mappings.remove(new_end, old_end)
        self._break = address
        return address

    def may_grow(self, size: int, protection: int, shared: bool) -> bool:
        """Whether the guest's own limits allow it *size* bytes more.

        Of memory that is to be replaced it has to be able to have both, which is rarely noticed.
        """
        if self.most is not None:
            used = sum(area.end - area.start for area in self.mappings)
            if used + size > self.most:
                return False
        if self.most_data is not None and protection & PROT_WRITE and not shared:
            private = [a for a in self.mappings if a.protection & PROT_WRITE and not a.shared]
            used = sum(area.end - area.start for area in private if area.path != "[stack]")
            return used + size <= self.most_data
        return True

    # Placing.

    def find_place(self, size: int, alignment: int = 4096) -> int:
        """Return where in the region *size* bytes are free, 0 if nowhere."""
        for start, end in self.mappings.gaps(self._region_low, self._region_high):
            place = -(-start // alignment) * alignment
            if place + size <= end:
                return place
        return 0

    def _place(self, hint: int, size: int, protection: int, flags: int, is_file: bool) -> int:
        """Return where to map what may lie anywhere, 0 to leave it to the kernel."""
        if hint:
            hint &= -4096
            inside = self._is_reserved(hint, hint + size)
            return hint if inside and not self.mappings.overlapping(hint, hint + size) else 0
        if flags & (MAP_32BIT | MAP_HUGETLB | MAP_GROWSDOWN):
            return 0
        if not (is_file or protection & PROT_EXEC) or size > REGION_SIZE // 4:
            return 0
        return self.find_place(size)

    def _is_reserved(self, low: int, high: int) -> bool:
        return any(start <= low and high <= end for start, end in self._reserved)

    def _claim(self, low: int, high: int, flags: int) -> int:
        """Make sure that the guest may map something at [*low*, *high*); return 0 or -errno."""
        if high > _USER_END:
            return -ENOMEM
        if flags & MAP_FIXED_NOREPLACE and self.mappings.overlapping(low, high):
            return -EEXIST
        for start, end in self.mappings.gaps(low, high):
            if self._is_reserved(start, end):
                continue
            flags_here = _BESIDE | MAP_FIXED_NOREPLACE
            result = call(SYS_MMAP, start, end - start, PROT_NONE, flags_here, -1, 0)
            if result == start:
                continue  # it will be replaced
            if result == -EEXIST:
                note("mmap at %#x-%#x refused: pydbi's own memory is there", low, high)
                return -EEXIST if flags & MAP_FIXED_NOREPLACE else -ENOMEM
            return result
        return 0

    def _release(self, start: int, end: int) -> int:
        """Unmap memory; within what is reserved, only the guest loses it."""
        if self._is_reserved(start, end):
            result = call(SYS_MMAP, start, end - start, PROT_NONE, _HOLE, -1, 0)
            return min(result, 0)
        if self._is_shared_with_host(start):
            return 0
        return call(SYS_MUNMAP, start, end - start)

    def _is_shared_with_host(self, address: int) -> bool:
        area = self.mappings.find(address)
        return area is not None and area.path in SHARED_WITH_HOST

    def _fill(self, low: int, high: int, new_low: int, new_high: int) -> None:
        """Reserve again what mremap has left of [*low*, *high*), now at [*new_low*, *new_high*)."""
        if self._is_reserved(low, high):
            for start, end in ((low, min(high, new_low)), (max(low, new_high), high)):
                if start < end:
                    call(SYS_MMAP, start, end - start, PROT_NONE, _HOLE, -1, 0)

    def _forget_code(self, low: int, high: int) -> None:
        if self.mappings.is_executable(low, high):
            self.forget(low, high)

    def release(self) -> None:
        """Unmap everything."""
        for area in list(self.mappings):
            if not self._is_reserved(area.start, area.end) and area.path not in SHARED_WITH_HOST:
                call(SYS_MUNMAP, area.start, area.end - area.start)
        for start, end in self._reserved:
            call(SYS_MUNMAP, start, end - start)
        self._reserved.clear()
        self.mappings.remove(0, _USER_END)
