"""What can be set on a VM: options, errno, the size of the cache."""

from __future__ import annotations

from pydbi.enums.integers import unsigned
from pydbi.jit.engine import Engine
from pydbi.types import CodeCheck, Options
from pydbi.vm.arguments import as_kind

SMALLEST_CACHE = 1 << 16
"""The least limit of a cache, in bytes. A chunk of exit stubs alone takes 5 KiB."""


class Settings:
    """VM's methods about its options."""

    _engine: Engine

    @property
    def options(self) -> Options:
        """The VM's options. Setting them clears the cache; callbacks and ranges stay.

        Raises:
            TypeError: no `Options`.
            ReentryError: the VM is running.
        """
        return self._engine.options

    @options.setter
    def options(self, value: Options) -> None:
        self._engine.set_options(as_kind(value, Options))

    @property
    def codeCheck(self) -> CodeCheck:
        """Which code is checked for changes. Setting it clears the cache. pydbi's own.

        Raises:
            TypeError: no `CodeCheck`.
            ReentryError: the VM is running.
        """
        return self._engine.translator.code_check

    @codeCheck.setter
    def codeCheck(self, value: CodeCheck) -> None:
        self._engine.set_code_check(as_kind(value, CodeCheck))

    @property
    def mapCodeTwice(self) -> bool:
        """Whether generated code is written at one address and executed at another. pydbi's own.

        Then no page of this VM is writable and executable at once. It is False at first: the
        cache's pages are both. Setting it empties the cache.

        A child of `os.fork` gets a copy of the code. One that is forked behind Python's back, by
        the guest or a C library, has none: it must not run this VM, but can execute other programs.

        Raises:
            TypeError: no bool.
            ReentryError: the VM is running.
            OSError: the kernel refuses such memory.
        """
        return self._engine.cache.mapped_twice

    @mapCodeTwice.setter
    def mapCodeTwice(self, value: bool) -> None:
        self._engine.map_twice(as_kind(value, bool))

    def setCacheLimit(self, size: int) -> None:
        """Have the cache emptied when it holds more than *size* bytes of generated code.

        `stats.cache_bytes` is what is compared, before a block is translated: so it may be
        exceeded by one block, and by blocks that a callback translates ahead. pydbi's own.

        Args:
            size: at least `SMALLEST_CACHE`; 0, as at first: only arenas that are full are emptied.

        Raises:
            TypeError: no unsigned integer.
            ValueError: it is smaller.
        """
        limit = unsigned(size, "size")
        if 0 < limit < SMALLEST_CACHE:
            raise ValueError(
                f"a cache of {limit} bytes would be emptied for every block: allow "
                f"{SMALLEST_CACHE} at least, or 0 for no limit"
            )
        self._engine.invalidation.cache_limit = limit

    def getCacheLimit(self) -> int:
        """Return what `setCacheLimit` has set, in bytes."""
        return self._engine.invalidation.cache_limit

    def getErrno(self) -> int:
        """Return the guest's errno, as it was when it left for Python."""
        return self._engine.guest.errno

    def setErrno(self, errno: int) -> None:
        """Set the guest's errno: what it finds when it goes on."""
        self._engine.guest.errno = unsigned(errno, "errno", 32)

    def getNbExecBlock(self) -> int:
        """Return how much code is in the cache, in blocks of 4 KiB, rounded up."""
        return self._engine.cache.count_code_pages()

    def reduceCacheTo(self, nb: int) -> None:
        """Empty the cache if there are more than *nb* blocks of 4 KiB in it.

        It is emptied as a whole: blocks lie in the order of execution, not in units of their own.
        """
        if self.getNbExecBlock() > unsigned(nb, "number of blocks", 32):
            self._engine.invalidation.forget_all()
