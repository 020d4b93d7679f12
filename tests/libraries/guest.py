"""Functions of real libraries, called natively and under an engine, in a child process."""

from __future__ import annotations

import ctypes
import importlib
import os
import struct
from pathlib import Path
from typing import Any

STACK_SIZE = 8 << 20

Argument = int | float | bytes | str | None | ctypes.Array[Any]


class Guest:
    """A VM with a stack, and a way to call functions with integers, floats, text and buffers.

    Attributes:
        counted: how many instructions the callback saw, in mode "counting".
    """

    def __init__(self, mode: str, folder: str) -> None:
        engine: Any = importlib.import_module(os.environ.get("PYDBI_TEST_ENGINE", "pydbi"))
        self.mode = mode
        self.folder = Path(folder)
        self.counted = 0
        self.vm = engine.VM()
        gpr = self.vm.getGPRState()
        self._stack = engine.allocateVirtualStack(gpr, STACK_SIZE)
        self.vm.setGPRState(gpr)
        if mode == "counting":
            go_on = engine.VMAction.CONTINUE

            def count(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
                self.counted += 1
                return go_on

            self.vm.addCodeCB(engine.InstPosition.PREINST, count, None)

    def library(self, name: str) -> ctypes.CDLL:
        """Load a library (or one that the tests compiled) and instrument it."""
        built = self.folder / name
        library = ctypes.CDLL(str(built if built.exists() else name), use_errno=True)
        self.vm.addInstrumentedModule(built.name if built.exists() else self._file_of(name))
        return library

    def _file_of(self, name: str) -> str:
        for line in Path("/proc/self/maps").read_text().splitlines():
            fields = line.split(None, 5)
            if len(fields) == 6 and Path(fields[5]).name.startswith(name):
                return Path(fields[5]).name
        raise LookupError(f"{name} is not mapped")

    def call(self, function: Any, *arguments: Argument) -> int:
        """Call a function and return rax; floats go into xmm registers as doubles, al counts them.

        Asserts that the callback saw something, in mode "counting".
        """
        keep, words, floats = [], [], []
        for argument in arguments:
            if isinstance(argument, float):
                floats.append(argument)
            elif isinstance(argument, int) or argument is None:
                words.append((argument or 0) & 0xFFFFFFFFFFFFFFFF)
            else:
                buffer: Any = argument.encode() if isinstance(argument, str) else argument
                if isinstance(buffer, bytes):
                    buffer = ctypes.create_string_buffer(buffer)
                keep.append(buffer)
                words.append(ctypes.addressof(buffer))
        if floats:
            fpr = self.vm.getFPRState()
            for number, value in enumerate(floats):
                setattr(fpr, f"xmm{number}", struct.pack("<dd", value, 0))
            self.vm.setFPRState(fpr)
        gpr = self.vm.getGPRState()
        gpr.rax = len(floats)
        self.vm.setGPRState(gpr)
        before = self.counted
        address = ctypes.cast(function, ctypes.c_void_p).value
        done, result = self.vm.call(address, words)
        assert done, "call() returned False"
        assert self.mode != "counting" or self.counted > before, "no callback ran"
        return int(result)

    def call_for_double(self, function: Any, *arguments: Argument) -> bytes:
        """The same of a function that returns a double: the eight bytes of xmm0."""
        self.call(function, *arguments)
        return bytes(self.vm.getFPRState().xmm0[:8])

    def signed(self, function: Any, *arguments: Argument) -> int:
        """The same of a function that returns an int."""
        return ctypes.c_int(self.call(function, *arguments) & 0xFFFFFFFF).value


def double_bytes(value: float) -> bytes:
    """The eight bytes of a double, so that NaN and -0.0 compare as what they are."""
    return struct.pack("<d", value)
