"""The exceptions of pydbi: one class per kind of mistake, each also of the closest builtin kind.

Each carries what it is about, where that is known: the app address (where the instruction lives
in the guest, never an address in the cache) and the instruction's bytes.
"""

from __future__ import annotations

from typing import Any


class PydbiError(Exception):
    """Base of everything that pydbi raises on its own account.

    Args:
        message: what was wrong and what to do about it.
        app_address: the app address that it is about, if there is one.
        code: the bytes at that address, if they could be read.
    """

    def __init__(
        self, message: str = "", *, app_address: int | None = None, code: bytes = b""
    ) -> None:
        super().__init__(message)
        self.app_address = app_address
        self.code = code


class PlatformError(PydbiError, ImportError):
    """This is not a 64-bit Python on x86-64 Linux, or the processor lacks what pydbi needs."""


class DecodeError(PydbiError, ValueError):
    """The bytes are not an instruction that the processor would execute in 64-bit mode."""

    def __init__(self, app_address: int, code: bytes, reason: str = "") -> None:
        shown = code[:15].hex(" ") or "no readable byte"
        super().__init__(
            f"no valid instruction at {app_address:#x}: {shown}"
            + (f" ({reason})" if reason else ""),
            app_address=app_address,
            code=code,
        )
        self.reason = reason

    def __reduce__(self) -> tuple[type[DecodeError], tuple[int, bytes, str]]:
        assert self.app_address is not None
        return type(self), (self.app_address, self.code, self.reason)


class UnsupportedInstruction(PydbiError, NotImplementedError):
    """A valid instruction that pydbi cannot translate without changing what it does."""

    def __init__(self, app_address: int, code: bytes, reason: str) -> None:
        super().__init__(
            f"cannot translate the instruction at {app_address:#x} ({code.hex(' ')}): {reason}",
            app_address=app_address,
            code=code,
        )
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnsupportedInstruction], tuple[int, bytes, str]]:
        assert self.app_address is not None
        return type(self), (self.app_address, self.code, self.reason)


# What `si_code` says for the signals that an instruction can raise: <bits/siginfo-consts.h>.
_FAULT_REASONS = {
    (4, 1): "illegal opcode",
    (4, 2): "illegal operand",
    (5, 128): "breakpoint",
    (7, 1): "misaligned address",
    (7, 2): "no memory behind the address, for instance past the end of a mapped file",
    (8, 1): "integer division by zero or overflow",
    (8, 3): "floating-point division by zero",
    (8, 4): "floating-point overflow",
    (8, 5): "floating-point underflow",
    (8, 6): "inexact floating-point result",
    (8, 7): "invalid floating-point operation",
    (11, 1): "address not mapped",
    (11, 2): "access not permitted",
    (11, 128): "non-canonical address or privileged instruction",
}
_SIGNAL_NAMES = {4: "SIGILL", 5: "SIGTRAP", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}
# The signals whose siginfo has the address of the data, not of the instruction.
_WITH_DATA_ADDRESS = frozenset({7, 11})


class GuestFault(PydbiError, RuntimeError):
    """The guest executed an instruction that raises a signal natively.

    The guest's registers are as they were before that instruction, so the state can be examined,
    mended, and `run` called again.
    """

    def __init__(
        self,
        signal: int,
        si_code: int,
        app_address: int,
        fault_address: int,
        code: bytes = b"",
        details: str = "",
    ) -> None:
        name = _SIGNAL_NAMES.get(signal, f"signal {signal}")
        reason = _FAULT_REASONS.get((signal, si_code), f"si_code {si_code}")
        data = f", accessing {fault_address:#x}" if signal in _WITH_DATA_ADDRESS else ""
        shown = f" ({code.hex(' ')})" if code else ""
        super().__init__(
            f"the guest got {name} ({reason}) at {app_address:#x}{shown}{data}; "
            f"its registers are as before the instruction{details}",
            app_address=app_address,
            code=code,
        )
        self.signal = signal
        """Number of the signal."""
        self.si_code = si_code
        """Its `si_code`, which says why."""
        self.fault_address = fault_address
        """The address whose access failed, as the kernel reports it."""
        self.details = details
        """What else the message tells: the instruction as text, and the registers."""
        self.instruction: Any = None
        """The instruction's `InstAnalysis`, if there is one; it is lost in a pickle."""

    def __reduce__(self) -> tuple[type[GuestFault], tuple[int, int, int, int, bytes, str]]:
        assert self.app_address is not None
        where = (self.app_address, self.fault_address)
        return type(self), (self.signal, self.si_code, *where, self.code, self.details)


class GuestTimeout(PydbiError, TimeoutError):
    """A run was not over in the time it was given; the guest can go on from `app_address`."""

    def __init__(self, timeout: float, app_address: int) -> None:
        super().__init__(
            f"the guest was still running after {timeout} s, at {app_address:#x}; its registers "
            "are as before that instruction",
            app_address=app_address,
        )
        self.timeout = timeout
        """The time it was given, in seconds."""

    def __reduce__(self) -> tuple[type[GuestTimeout], tuple[float, int]]:
        assert self.app_address is not None
        return type(self), (self.timeout, self.app_address)


class CacheError(PydbiError, MemoryError):
    """There is no room for translated code where it would have to lie."""


class ReentryError(PydbiError, RuntimeError):
    """A VM was asked, from inside one of its own callbacks, for something it cannot do there."""


class GuestMemoryError(PydbiError, OSError):
    """Memory that was to be read or written is not mapped, or does not permit it.

    `address` is the first address that could not be accessed, rounded down to where the kernel
    stopped.
    """

    def __init__(self, message: str, *, address: int) -> None:
        super().__init__(message)
        self.address = address

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_memory_error, (str(self), self.address)


def _restore_memory_error(message: str, address: int) -> GuestMemoryError:
    """Unpickle a `GuestMemoryError`, whose address is a keyword."""
    return GuestMemoryError(message, address=address)
