"""One guest thread: its context in memory, and the way into it."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cache

from pydbi.errors import CacheError
from pydbi.host import cpu
from pydbi.host.libc import PROT_EXEC, PROT_READ, libc, syscall
from pydbi.host.memory import map_memory, protect_memory, unmap_memory, view
from pydbi.jit.context import (
    CACHE_RANGES_COUNT,
    CACHE_RANGES_OFFSET,
    CONTEXT_SIZE,
    EFLAGS_FIXED,
    FCW_DEFAULT,
    FPR_OFFSET,
    GPR_OFFSET,
    OPMASK_OFFSET,
    REASON_NONE,
    SLOT,
    TABLE_ENTRIES,
    TABLE_OFFSET,
    ZMM_OFFSET,
)
from pydbi.jit.states import FPRState, GPRState
from pydbi.jit.stubs import AVX, AVX512, NONE, SSE, stubs
from pydbi.tuples import NamedTuple
from pydbi.types import VMAction

THUNK_SIZE = 4096
_SYS_ARCH_PRCTL, _ARCH_SET_GS, _ARCH_GET_FS, _ARCH_GET_GS = 158, 0x1001, 0x1003, 0x1004
_EFLAGS = GPR_OFFSET["eflags"] >> 3
_ST = FPR_OFFSET + 32
"""Where ST(0) is kept: the first of eight 16-byte places in the FXSAVE area."""
_ERRNO = SLOT["GUEST_ERRNO"] >> 3
_REGISTERS_SIZE = SLOT["GUEST_GS"] + 8
_FULL_FLAGS = SLOT["FULL_FLAGS"] >> 3


def _vectorcall_address() -> int:
    """PyObject_Vectorcall; Python 3.10 exports only its relative, which takes a dict for NULL."""
    if hasattr(ctypes.pythonapi, "PyObject_Vectorcall"):
        return _address_of("PyObject_Vectorcall")
    return _address_of("PyObject_VectorcallDict")


def _errno_location() -> int:
    return int(getattr(libc, "__errno_location")())


def _fs_base() -> int:
    """FS base of this thread, which is also its thread control block's address."""
    result = ctypes.c_uint64()
    syscall(_SYS_ARCH_PRCTL, _ARCH_GET_FS, ctypes.addressof(result))
    return result.value


def _address_of(name: str) -> int:
    function = getattr(ctypes.pythonapi, name)
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def _gs_base() -> int:
    """GS base of this thread: the context of the guest it has run last, or 0."""
    result = ctypes.c_uint64()
    syscall(_SYS_ARCH_PRCTL, _ARCH_GET_GS, ctypes.addressof(result))
    return result.value


class AlternateStack(NamedTuple):
    """stack_t of <bits/types/stack_t.h>."""

    sp: int = 0
    flags: int = 2  # SS_DISABLE
    size: int = 0

    def contains(self, rsp: int) -> bool:
        """Whether *rsp* is on it."""
        return self.sp < rsp <= self.sp + self.size


class Guest:
    """The saved state of a guest thread, and the machine code's slots beside it.

    Attributes:
        words: the context as 64-bit words: ``words[SLOT[name] >> 3]``.
        gpr, fpr: views on the registers in it.
        thunk: address of the code behind `enter`.
        saves_fpr: whether switches save and restore what FPRState shows.
        alternate_stack: what the guest has told the kernel to use for signal handlers.
        withheld_signals: those that the guest has blocked, but not the kernel; a bit each.
        backs_up_errno: whether host and guest each have an errno of their own.
        enter: run the guest from the cache address in slot ENTRY; returns the REASON it left for.
            A Python exception set by a callback comes out of it.
    """

    def __init__(self) -> None:
        owner = _ContextMemory()
        self.address = owner.address
        self.memory = view(self.address, CONTEXT_SIZE)
        self.words = self.memory.cast("Q")
        self.gpr = GPRState.from_address(self.address)
        self.fpr = FPRState.from_address(self.address + FPR_OFFSET)
        self.gpr.owner = self.fpr.owner = owner
        self.fpr.reset()
        self.fpr.on_write = self.notice_state
        self.uses_x87 = False
        self.uses_avx512 = False
        self.swaps_fs = False
        self.backs_up_errno = True
        self.saves_fpr = True
        self.alternate_stack = AlternateStack()
        self.withheld_signals = 0
        self.words[_EFLAGS] = EFLAGS_FIXED
        self._fill_slots()
        self.select_switch()
        self.enter = self._make_enter()

    def _fill_slots(self) -> None:
        words = self.words
        slots = stubs().fixed_slots()
        slots[SLOT["SELF"]] = self.address
        slots[SLOT["REASON"]] = REASON_NONE
        slots[SLOT["VECTORCALL"]] = _vectorcall_address()
        slots[SLOT["PY_DECREF"]] = _address_of("Py_DecRef")
        slots[SLOT["PY_SAVE_THREAD"]] = _address_of("PyEval_SaveThread")
        slots[SLOT["PY_RESTORE_THREAD"]] = _address_of("PyEval_RestoreThread")
        slots[SLOT["PY_CONTINUE"]] = id(VMAction.CONTINUE)
        for slot, value in slots.items():
            words[slot >> 3] = value
        self.clear_table()

    def copy_state(self, other: Guest) -> None:
        """Take over the registers of another thread, and how they are saved."""
        self.memory[:_REGISTERS_SIZE] = other.memory[:_REGISTERS_SIZE]
        self.memory[FPR_OFFSET:CACHE_RANGES_OFFSET] = other.memory[FPR_OFFSET:CACHE_RANGES_OFFSET]
        for slot in ("UPPER_IN_USE", "FULL_FLAGS", "SYSCALL_TABLE", "GATE_RECORDS"):
            self.words[SLOT[slot] >> 3] = other.words[SLOT[slot] >> 3]
        self.uses_x87, self.uses_avx512 = other.uses_x87, other.uses_avx512
        self.swaps_fs, self.saves_fpr = other.swaps_fs, other.saves_fpr
        self.backs_up_errno = other.backs_up_errno
        self.withheld_signals = other.withheld_signals
        self.select_switch()

    def prepare_thread(self) -> None:
        """Let the guest share the calling thread's errno."""
        spare = self.address + SLOT["ERRNO_UNUSED"]
        self.words[SLOT["ERRNO_ADDRESS"] >> 3] = _errno_location() if self.backs_up_errno else spare
        thread = self.words[SLOT["THREAD"] >> 3] = self.words[SLOT["HOST_FS"] >> 3] = _fs_base()
        inherited = _gs_base()  # from the thread that made this one
        if stubs().has_context(inherited):
            host_fs = ctypes.c_uint64.from_address(inherited + SLOT["HOST_FS"]).value
            if host_fs != thread:
                syscall(_SYS_ARCH_PRCTL, _ARCH_SET_GS, 0)

    @property
    def errno(self) -> int:
        """The guest's errno, as long as it is not in the cache."""
        return self.words[_ERRNO] & 0xFFFFFFFF

    @errno.setter
    def errno(self, value: int) -> None:
        self.words[_ERRNO] = value

    def _make_enter(self) -> Callable[[], int]:
        """A function of no arguments is the cheapest that ctypes calls: the context is built in."""
        self.thunk = map_memory(THUNK_SIZE)
        code = (
            b"\x48\xbf" + self.address.to_bytes(8, "little")  # movabs rdi, context
            + b"\xff\xa7" + SLOT["ENTER"].to_bytes(4, "little")  # jmp [rdi + ENTER]
        )  # fmt: skip
        view(self.thunk, len(code))[:] = code
        protect_memory(self.thunk, THUNK_SIZE, PROT_READ | PROT_EXEC)
        return ctypes.PYFUNCTYPE(ctypes.c_uint)(self.thunk)

    def clear_table(self) -> None:
        """Make the first-level lookup table empty."""
        table = _empty_table(stubs().find("lookup_miss"))
        ctypes.memmove(self.address + TABLE_OFFSET, table, len(table))

    def set_cache_ranges(self, ranges: list[tuple[int, int]]) -> None:
        """Tell the fault handler where this guest's generated code lies."""
        if len(ranges) >= CACHE_RANGES_COUNT:
            raise CacheError(
                f"the guest's code lies in more than {CACHE_RANGES_COUNT - 1} places that are "
                "2 GiB apart: run them in VMs of their own"
            )
        place = CACHE_RANGES_OFFSET >> 3
        for low, high in [*ranges, (0, 0)]:
            self.words[place], self.words[place + 1] = low, high
            place += 2

    # What the guest was seen to use decides how much a switch saves.

    def need_x87(self) -> None:
        """From the next switch on, save and restore x87 and MMX state."""
        if not self.uses_x87:
            self.uses_x87 = True
            self.select_switch()

    def need_avx512(self) -> None:
        """From the next switch on, save and restore zmm0-31 and k0-7."""
        if not self.uses_avx512:
            self.uses_avx512 = True
            self.select_switch()

    def need_full_flags(self) -> None:
        """From the next switch on, save and restore DF, AC, ID and NT too."""
        self.words[_FULL_FLAGS] = 1

    def notice_state(self) -> None:
        """Notice registers that were set from Python and that a switch would not restore."""
        fpr, memory = self.fpr, self.memory
        low = bytes(memory[ZMM_OFFSET : ZMM_OFFSET + 16 * 64])
        high = [low[place + 16 : place + 64] for place in range(0, len(low), 64)]
        if any(map(any, high)):
            self.words[SLOT["UPPER_IN_USE"] >> 3] = 1
        if not self.uses_x87 and (
            fpr.rfcw != FCW_DEFAULT or fpr.rfsw or fpr.ftw or any(memory[_ST : _ST + 128])
        ):
            self.need_x87()
        if not self.uses_avx512 and (
            any(memory[ZMM_OFFSET + 16 * 64 : OPMASK_OFFSET + 64])
            or any(any(part[16:]) for part in high)
        ):
            self.need_avx512()

    def need_fs_swap(self) -> None:
        """From the next switch on, the guest has an FS base of its own; now it is the host's."""
        if not self.swaps_fs:
            self.words[SLOT["GUEST_FS"] >> 3] = self.fs_base()
            self.swaps_fs = True
            self.select_switch()

    def fs_base(self) -> int:
        """The guest's FS base; as long as it has none of its own, the host's."""
        return int(self.words[SLOT["GUEST_FS"] >> 3]) if self.swaps_fs else _fs_base()

    def select_switch(self) -> None:
        """Put in force the variant that saves what the guest uses."""
        if not self.saves_fpr:
            vector = NONE
        elif not cpu.has_avx():
            vector = SSE
        else:
            vector = AVX512 if self.uses_avx512 and cpu.has_avx512() else AVX
        slots = stubs().switch_slots(vector, self.uses_x87 and self.saves_fpr, self.swaps_fs)
        for slot, value in slots.items():
            self.words[slot >> 3] = value


# Contexts are used again, never unmapped: GS of a thread that has run a guest still points to its
# context, and the fault handler looks there.
_spare_contexts: list[int] = []


class _ContextMemory:
    """The memory of a context. Views on the registers keep it alive, beyond their VM if need be."""

    def __init__(self) -> None:
        if _spare_contexts:
            self.address = _spare_contexts.pop()
            ctypes.memset(self.address, 0, TABLE_OFFSET)
        else:
            self.address = map_memory(CONTEXT_SIZE)
            stubs().add_context(self.address)
        weakref.finalize(self, _spare_contexts.append, self.address)


def release_guest(context: int, thunk: int) -> None:
    """Take back the code of a guest whose VM is gone; its registers may live on."""
    unmap_memory(thunk, THUNK_SIZE)
    ctypes.memset(context + CACHE_RANGES_OFFSET, 0, 16)  # it has no code any more


@cache
def _empty_table(entry: int) -> bytes:
    """Return the bytes of a lookup table whose entries are all *entry*."""
    return entry.to_bytes(8, "little") * TABLE_ENTRIES
