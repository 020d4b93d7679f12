"""What the conformance tests have in common: guest code at known addresses, and deviations."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from tests.exec.gnu_as import PREAMBLE, assemble

BASE = 0x100_0000_0000
"""Where guest code lies unless a test says otherwise: nothing else is ever mapped there."""
SIZE = 0x10000
DATA = 0x8000
STACK_TOP = 0xF000
RETURN = b"\xc3"

_REGISTERS = "rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rbp"
REGISTERS = _REGISTERS.split()
"""The general registers but rsp, in the order of a GPRState."""

_PRIVATE_ANONYMOUS_FIXED_NOREPLACE = 0x02 | 0x20 | 0x100000
_READ_WRITE_EXECUTE = 7
_LABEL = re.compile(r"(?:^|;)[ \t]*([A-Za-z_]\w*):", re.MULTILINE)

T = TypeVar("T")


def wrong(qbdi: Any, reason: str) -> bool:
    """Whether *qbdi* is PyQBDI, which does the wrong thing here; *reason* says what is wrong.

    The test then asserts what PyQBDI really does, and on pydbi what is right.
    """
    return either(qbdi, pyqbdi=True, right=False, reason=reason)


def either(qbdi: Any, *, pyqbdi: T, right: T, reason: str) -> T:
    """Return the value to expect: *pyqbdi* on PyQBDI, which is wrong for *reason*, else *right*."""
    if qbdi.__name__ != "pyqbdi":
        return right
    print(f"PyQBDI is wrong here: {reason}")
    return pyqbdi


def fate(function: Callable[..., Any], *arguments: Any, timeout: float = 0.5) -> str:
    """Call *function* in a fork of this process and return how that ends.

    Returns:
        ``lives`` if it returns, ``raises NAME`` if it raises, ``exit NUMBER`` or the name of a
        signal if it takes the process along, ``hangs`` if it is not back after *timeout* seconds.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    result, note = os.pipe()
    child = os.fork()
    if child == 0:
        _live(function, arguments, note)
    os.close(note)
    ended = os.pidfd_open(child)
    hangs = not select.select([ended], [], [], timeout)[0]
    if hangs:
        os.kill(child, signal.SIGKILL)
    os.close(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(result) as lines:
        said = lines.read()
    if hangs:
        return "hangs"
    return said or (signal.Signals(-code).name if code < 0 else f"exit {code}")


def _live(function: Callable[..., Any], arguments: tuple[Any, ...], note: int) -> None:
    said = "lives"
    try:
        function(*arguments)
    except BaseException as error:
        traceback.print_exc()
        said = f"raises {type(error).__name__}"
    finally:
        sys.stdout.flush()
        os.write(note, said.encode())
        os._exit(0)


def map_at(address: int, size: int = SIZE) -> None:
    """Map readable, writable and executable zeros at *address* (a multiple of the page size)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    flags = _PRIVATE_ANONYMOUS_FIXED_NOREPLACE
    if libc.mmap(address, size, _READ_WRITE_EXECUTE, flags, -1, 0) != address:
        raise OSError(ctypes.get_errno(), f"nothing can be mapped at {address:#x}")


class Guest:
    """Assembled code, a page of data and a stack at known addresses, and a VM to run the code.

    The code gets the labels ``start`` in front and ``end`` behind it; the rest of its 32 KiB is
    filled with ``ret``, so that blocks end soon. ``data`` may be used in the text.

    Args:
        qbdi: the module under test.
        text: assembly in Intel syntax, position-independent.
        at: address of the code.
        vm: a VM to use; without it one is made.
        past_end: instrument ``end`` and the ``ret``s behind it too.
        options: of the VM.
    """

    def __init__(
        self,
        qbdi: Any,
        text: str,
        *,
        at: int = BASE,
        vm: Any = None,
        past_end: bool = False,
        options: Any = None,
    ) -> None:
        labels = ["start", *_LABEL.findall(text), "end"]
        table = "".join(f".long {label} - start\n" for label in labels)
        source = f"{PREAMBLE}.set data, start + {DATA}\nstart:\n{text}\nend:\n{table}"
        code = assemble(source)
        code, offsets = code[: -4 * len(labels)], code[-4 * len(labels) :]
        values = struct.unpack(f"<{len(labels)}I", offsets)
        self.qbdi = qbdi
        self.base, self.data, self.stack_top = at, at + DATA, at + STACK_TOP
        self.labels = {name: at + value for name, value in zip(labels, values, strict=True)}
        self.code = code
        map_at(at)
        ctypes.memmove(at, code + RETURN * (DATA - len(code)), DATA)
        self.vm = vm or (qbdi.VM() if options is None else qbdi.VM(options=options))
        self.vm.addInstrumentedRange(at, self.data if past_end else self["end"])
        if vm is None:
            self.set(rsp=self.stack_top, rbp=self.stack_top)
        self.log: list[Any] = []

    def __getitem__(self, label: str) -> int:
        """The address of a label."""
        return self.labels[label]

    def where(self, address: int) -> str:
        """The last label at an address, or the address in hexadecimal."""
        names = [name for name, place in self.labels.items() if place == address]
        return names[-1] if names else f"{address:#x}"

    # Registers and memory.

    def set(self, **registers: int) -> None:
        """Set general registers of the guest."""
        gpr = self.vm.getGPRState()
        for name, value in registers.items():
            setattr(gpr, name, value)
        self.vm.setGPRState(gpr)

    def get(self, name: str) -> int:
        """A general register of the guest."""
        return int(getattr(self.vm.getGPRState(), name))

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the data page."""
        return ctypes.string_at(self.data + offset, size)

    def write(self, offset: int, values: bytes) -> None:
        """Set bytes of the data page."""
        ctypes.memmove(self.data + offset, values, len(values))

    # Running.

    def run(self, start: str = "start", stop: str = "end") -> bool:
        """Run from one label to another and return what ``VM.run`` returns."""
        result = self.vm.run(self[start], self[stop])
        assert isinstance(result, bool)
        return result

    # Callbacks that note in `log` that they were called.

    def noting(self, name: Any, *actions: str, move: str = "") -> Callable[..., Any]:
        """Return an instruction callback that appends (name, label at rip) to `log`.

        It returns *actions* (names) one after the other, then CONTINUE. With *move* it sets rip to
        that label each time it returns one of *actions*.
        """
        remaining = [getattr(self.qbdi, action) for action in actions]

        def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
            self.log.append((name, self.where(gpr.rip)))
            if not remaining:
                return self.qbdi.CONTINUE
            if move:
                gpr.rip = self[move]
            return remaining.pop(0)

        return callback

    def on(self, position: str, name: Any, *actions: str, at: str = "", **more: Any) -> int:
        """Register a noting callback, ``PRE`` or ``POST``, for every instruction or at a label."""
        callback = self.noting(name, *actions, move=more.pop("move", ""))
        where = getattr(self.qbdi, position + "INST")
        if at:
            return int(self.vm.addCodeAddrCB(self[at], where, callback, None, **more))
        return int(self.vm.addCodeCB(where, callback, None, **more))


def at(
    g: Guest, label: str, function: Callable[[Any, Any], Any], position: str = "PRE"
) -> list[Any]:
    """Call ``function(gpr, fpr)`` before or after the instruction at a label.

    Returns:
        A list that will hold what it returned each time.
    """
    seen: list[Any] = []

    def callback(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        seen.append(function(gpr, fpr))
        return g.qbdi.CONTINUE

    g.vm.addCodeAddrCB(g[label], getattr(g.qbdi, position + "INST"), callback, None)
    return seen
