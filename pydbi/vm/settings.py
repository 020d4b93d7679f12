"""What can be set on a VM: options, errno, the size of the cache."""

from __future__ import annotations

from pydbi.enums.integers import unsigned
from pydbi.jit.engine import Engine
from pydbi.types import CodeCheck, Options
from pydbi.vm.arguments import as_kind


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
            self._engine.forget_all()
