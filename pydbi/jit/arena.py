"""A region that generated code lies in.

It is filled from both ends. Code grows upwards from its start in the order in which it is first
executed, so that a block usually lies right behind the one that led to it. Exit stubs, constants
and landing pads, all rarely executed, grow downwards from its end.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydbi.host.code_memory import CodeMemory

ARENA_SIZE = 64 << 20
REACH = (1 << 31) - (1 << 16)
"""How far a 32-bit displacement is trusted to reach."""
HEADROOM = 1 << 16
"""An arena with less room left than this is full: no single block needs as much."""
_FAR_CHUNK = 1 << 14


class CacheFull(Exception):  # noqa: N818
    """The cache must be reset before another block is translated."""


class Arena:
    """A region of executable memory within reach of the code it translates.

    Attributes:
        memory: its bytes. They are written here and executed at `address`; the two need not be the
            same pages.
        code_top, data_top: what lies between is free.
        last_code: where the block that was placed last begins.
        far_top, far_end: what lies between is free for code that is rarely executed.
        next_exit, exit_limit: exit indices whose stubs are written and wait to be used.
        stub_base: the stub of exit *index* is at ``stub_base + EXIT_STUB_SIZE * index``.
    """

    def __init__(self, size: int, near: tuple[int, int] | None, mapped_twice: bool) -> None:
        """Map *size* bytes near [low, high), or anywhere.

        Raises:
            CacheError: no memory is free there.
        """
        self._pages = CodeMemory(size, near, mapped_twice, self._extents)
        self.memory = self._pages.memory
        self.address = self._pages.address
        self.end = self.address + size
        self.low_reach = self.end - REACH
        self.high_reach = self.address + REACH
        self.reset()

    def reset(self) -> None:
        """Forget everything in it."""
        self.code_top = self.address
        self.data_top = self.end
        self.last_code = self.address
        self.far_top = self.far_end = 0
        self.next_exit = self.exit_limit = 0
        self.stub_base = 0

    def map_again(self, mapped_twice: bool) -> None:
        """Replace its memory, at the same address."""
        self._pages.map_again(mapped_twice)
        self.memory = self._pages.memory
        self.reset()

    def _extents(self) -> Iterable[tuple[int, int]]:
        return (self.address, self.code_top), (self.data_top, self.end)

    def close(self) -> None:
        """Give its memory back."""
        self._pages.close()

    def reaches(self, address: int) -> bool:
        """Whether all code in this arena reaches *address* with a 32-bit displacement."""
        return self.low_reach <= address < self.high_reach

    def write(self, address: int, data: bytes | bytearray) -> None:
        """Write at a cache address."""
        offset = address - self.address
        self.memory[offset : offset + len(data)] = data

    def take_far(self, size: int, code_top: int) -> int:
        """Return where there is room for *size* bytes of code that is rarely executed.

        Args:
            code_top: the end of the block in the making.

        Raises:
            CacheFull: there is no room.
        """
        if self.far_end - self.far_top < size:
            chunk = max(size + 7 & -8, _FAR_CHUNK)
            if self.data_top - chunk - code_top < HEADROOM // 2:
                raise CacheFull
            self.data_top -= chunk
            self.far_top, self.far_end = self.data_top, self.data_top + chunk
        return self.far_top

    def add_data(self, data: bytes | bytearray) -> int:
        """Put *data* right below `data_top` and return its address.

        `data_top` stays a multiple of 8, and so 8 bytes are aligned: the guest may have set AC.
        """
        place = self.data_top - len(data)
        self.data_top = place & -8
        offset = place - self.address
        self.memory[offset : offset + len(data)] = data
        return place
