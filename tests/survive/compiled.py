"""The guest functions in ``c/``, compiled once, called natively and under a VM."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_SOURCES = Path(__file__).resolve().parent / "c"
_OPTIONS = ("-O1", "-shared", "-fPIC", "-pthread", "-Wno-clobbered")
STACK_SIZE = 1 << 20


def compile_source(name: str, folder: Path) -> Path:
    """Compile a source of ``c/`` and return the library; skip the test without a compiler."""
    source = _SOURCES / name
    compiler = "g++" if source.suffix == ".cpp" else "gcc"
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    target = folder / f"lib{source.stem}.so"
    command = [compiler, *_OPTIONS, str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


class Machine:
    """A library under a VM with a stack.

    Args:
        only: names of functions; beginnings of these alone are instrumented, and nothing else.
        counting: a callback on every instrumented instruction counts in `counted`.
    """

    def __init__(
        self, qbdi: Any, path: Path, *, only: tuple[str, ...] = (), counting: bool = False
    ) -> None:
        self.library = ctypes.CDLL(str(path))
        self.vm = qbdi.VM()
        gpr = self.vm.getGPRState()
        assert qbdi.allocateVirtualStack(gpr, STACK_SIZE)
        self.vm.setGPRState(gpr)
        self.counted = 0
        for name in only:
            self.vm.addInstrumentedRange(self.address(name), self.address(name) + 16)
        if not only:
            assert self.vm.addInstrumentedModule(path.name)
        if counting:

            def count(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
                self.counted += 1
                return qbdi.CONTINUE

            self.vm.addCodeCB(qbdi.PREINST, count, None)

    def address(self, name: str) -> int:
        """Where a function is."""
        address = ctypes.cast(getattr(self.library, name), ctypes.c_void_p).value
        assert address
        return address

    def native(self, name: str, *arguments: Any) -> int:
        """The result without a VM, signed."""
        function = getattr(self.library, name)
        function.restype = ctypes.c_long
        return int(function(*[_word(value) for value in arguments]))

    def call(self, name: str, *arguments: Any) -> int:
        """The result under the VM, signed."""
        words = [_word(value).value or 0 for value in arguments]
        done, result = self.vm.call(self.address(name), words)
        assert done
        return ctypes.c_long(result).value


def _word(value: Any) -> ctypes.c_size_t:
    return ctypes.c_size_t(value if isinstance(value, int) else ctypes.addressof(value))
