"""Python source text, run in another process by a Python that is loaded there.

A thread of the process is borrowed only to start another one, which loads libpython and runs the
text (``asm_stubs/x86_64/inject.S``).
"""

from __future__ import annotations

import os
import struct
import sys
import sysconfig
import time
from itertools import product
from typing import Protocol

from pydbi.host.libc import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from pydbi.host.maps import read_mappings
from pydbi.host.memory import PAGE_SIZE, page_ceil, view
from pydbi.jit.stubs import stubs
from pydbi.tools.remote import AttachError, RemoteProcess

_FUNCTIONS = ("dlopen", "dlsym", "dlerror", "mmap", "pthread_create", "pthread_detach")
_TABLE = struct.Struct("<10Q")
_THREAD_AT = _TABLE.size
_TEXTS_AT = 128
_STATUS_AT, _RESULT_AT, _ERROR_AT = 48, 56, 64
"""Offsets in the table: see the INJECT_ constants of ``inject.S``."""
_DONE, _FAILED = 1, 2
_POLL = 0.005


class Caller(Protocol):
    """Whoever can call a function in the other process."""

    def call(self, function: int, *arguments: int) -> int:
        """Call it with up to six integers and return its result."""


class Injection:
    """Source text on its way into another process.

    Args:
        process: where.
        source: Python source text; ``{report}`` in it stands for the address of two words, which
            it may set to the address and the size of a text: why it has failed.
    """

    def __init__(self, process: RemoteProcess, source: str) -> None:
        self._process = process
        self._source = source
        self._functions = process.find_functions(_FUNCTIONS)
        self._library = find_libpython()
        self._data = 0

    def start(self, caller: Caller) -> None:
        """Let the process begin, on a thread of its own."""
        payload = _payload()
        code = self._map(caller, len(payload), PROT_READ | PROT_EXEC)
        self._process.write(code, payload)
        size = _TEXTS_AT + 16 + 4 * PAGE_SIZE + 4 * len(self._source.encode())
        self._data = data = self._map(caller, size, PROT_READ | PROT_WRITE)
        self._process.write(data, self._make_table(data))
        functions = self._functions
        thread = data + _THREAD_AT
        failed = caller.call(functions["pthread_create"], thread, 0, code, data) & 0xFFFFFFFF
        if failed:
            raise AttachError(
                f"process {self._process.pid} cannot start a thread: {os.strerror(failed)}"
            )
        handle = int.from_bytes(self._process.read(thread, 8), "little")
        caller.call(functions["pthread_detach"], handle)

    def _map(self, caller: Caller, size: int, protection: int) -> int:
        flags = MAP_PRIVATE | MAP_ANONYMOUS
        no_file = (1 << 64) - 1
        arguments = (0, page_ceil(size), protection, flags, no_file, 0)
        address = caller.call(self._functions["mmap"], *arguments)
        if address == MAP_FAILED:
            raise AttachError(f"process {self._process.pid} has no memory left")
        return address

    def _make_table(self, data: int) -> bytes:
        home = sys.base_prefix
        if sys.base_exec_prefix != home:
            home += f":{sys.base_exec_prefix}"
        report = data + _TEXTS_AT
        texts = [
            os.fsencode(self._library) + b"\0",
            home.encode("utf-32-le") + bytes(4),
            self._source.replace("{report}", str(report)).encode() + b"\0",
        ]
        place = report + 16
        addresses, body = [], bytes(16)
        for text in texts:
            text += bytes(-len(text) % 8)
            addresses.append(place)
            body += text
            place += len(text)
        linker = (self._functions[name] for name in _FUNCTIONS[:3])
        table = _TABLE.pack(*linker, *addresses, 0, 0, 0, 0)
        return table.ljust(_TEXTS_AT, b"\0") + body

    def wait(self) -> str:
        """Wait until the source text has been executed.

        Returns:
            Why it has failed, as it has said itself; empty if it has not.

        Raises:
            AttachError: Python could not be loaded, or the process has ended.
        """
        while True:
            status = self._word(_STATUS_AT)
            if status == _FAILED:
                reason = self._process.read_text(self._word(_ERROR_AT))
                raise AttachError(f"process {self._process.pid} cannot load Python: {reason}")
            if status == _DONE:
                break
            time.sleep(_POLL)
        address, size = self._word(_TEXTS_AT), self._word(_TEXTS_AT + 8)
        if size:
            return self._process.read(address, size).decode(errors="replace")
        if self._word(_RESULT_AT) & 0xFFFFFFFF:
            return "pydbi could not be imported there; the process's standard error says why"
        return ""

    def _word(self, offset: int) -> int:
        return int.from_bytes(self._process.read(self._data + offset, 8), "little")


def _payload() -> bytes:
    """Return the new thread's code; it can be executed anywhere."""
    begin, end = stubs().find("inject_begin"), stubs().find("inject_end")
    return bytes(view(begin, end - begin))


def find_libpython() -> str:
    """Return the path of the shared library of the Python that runs this.

    Raises:
        AttachError: it has none.
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}.so"
    for mapping in read_mappings():
        if os.path.basename(mapping.file).startswith(name):
            return mapping.file
    variables = sysconfig.get_config_vars("LIBDIR", "INSTSONAME", "LDLIBRARY", "LIBPL")
    folder, soname, library, other = (str(value or "") for value in variables)
    for place, file in product((folder, other), (soname, library)):
        path = os.path.join(place, file)
        if ".so" in path and os.path.exists(path):
            return path
    raise AttachError(
        f"this Python is linked statically, and there is no {name} beside it ({folder}): use one "
        "that is built with --enable-shared, or install the package with its shared library"
    )
