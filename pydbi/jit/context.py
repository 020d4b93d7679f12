"""The saved guest state: the one description that Python, the stubs and generated code share.

A context is one block of memory per guest thread, addressed through GS while the guest runs.
:class:`GPRState` and :class:`FPRState` are views on its beginning, so a register that a callback
reads or writes is the register itself. Behind them lie the engine's own slots, and behind these
the thread's lookup table. ``asm_stubs/build.py`` turns :func:`assembler_symbols` into the
constants the assembly sources use: an offset is written down here and nowhere else.
"""

from __future__ import annotations

from typing import Final

GPR_NAMES: Final = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rbp", "rsp", "rip", "eflags",
)  # fmt: skip
"""The general registers by index, as ``GPRState[index]`` and PyQBDI's ``REG_*`` count them."""

GPR_OFFSET: Final = {name: index * 8 for index, name in enumerate(GPR_NAMES)}
"""Where each general register lies in the context, in bytes."""

FPR_OFFSET: Final = 0x400
"""Where :class:`FPRState` begins in a context; a multiple of 64 (FXSAVE and ZMM moves need it)."""

ZMM_OFFSET: Final = FPR_OFFSET + 512
"""zmm0-31, 64 bytes each, whatever part of them the CPU has or the guest uses."""

OPMASK_OFFSET: Final = ZMM_OFFSET + 32 * 64
"""k0-k7, 8 bytes each."""

SIGINFO_OFFSET: Final = 0x1000
SIGINFO_SIZE: Final = 128
SIGNALS: Final = 64
"""What the kernel said about each pending signal: a siginfo_t for every number from 1 on."""

CACHE_RANGES_OFFSET: Final = 0xF00
CACHE_RANGES_COUNT: Final = 15
"""The VM's generated code as pairs (low, high) of addresses, ended by a pair of zeros."""

TABLE_OFFSET: Final = 0x10000
TABLE_ENTRIES: Final = 0x10000
"""The first-level lookup table: cache addresses by the low 16 bits of the app address."""

SHADOW_OFFSET: Final = TABLE_OFFSET + TABLE_ENTRIES * 8
SHADOW_PAIRS: Final = 1 << 14
"""Where memory accesses are recorded: pairs of words, each access of a block having its own."""

CONTEXT_SIZE: Final = SHADOW_OFFSET + SHADOW_PAIRS * 16

NATIVE_STACK_OFFSET: Final = 0x8000
NATIVE_STACK_ENTRIES: Final = 0x700
"""Native excursions under way, at most: 16 bytes each (return address, rsp at the call)."""

_SLOT_NAMES: Final = (
    # Machine code's own: where scratch registers and intermediate values rest.
    "SELF",  # this context's own address, so that `mov rbx, gs:[SELF]` finds it
    "SCRATCH_RCX",  # rcx while an indirect branch looks for its target
    "SCRATCH_0",  # free for one patch or stub at a time
    "SCRATCH_1",
    "TARGET",  # app address that an indirect branch goes to
    "ENTRY",  # cache address at which `enter` starts the guest
    "RESUME",  # cache address at which a gate goes on
    "CALL_RSP",  # rsp when a function was called from Python
    "RUNNING",  # 1 from entering the cache until it is left
    "ACTIVE",  # 1 from the start of a run until its end, in Python too
    # What leaves the cache says why.
    "REASON",  # exit index, or one of the REASON_ values below
    "GATE_INDEX",  # which gate record; the upper half is 0 while its callback is running
    "RESULT",  # PyObject * that a callback returned, when it was not CONTINUE
    # Where generated code jumps through GS: one variant of each stub is in force.
    "ENTER",
    "LEAVE",
    "LEAVE_TAIL",
    "GATE",
    "GATE_RESUME",
    "LOOKUP_MISS",  # the first-level table has another target, or none
    "NATIVE_CALL",
    # The host's side.
    "THREAD",  # fs:[0] of the thread that this context was prepared for
    "HOST_RSP",
    "HOST_FS",
    "HOST_MXCSR",
    "MXCSR_NOW",
    "ERRNO_ADDRESS",  # &errno of this thread while host and guest share a libc, else &ERRNO_UNUSED
    "GUEST_ERRNO",
    "ERRNO_UNUSED",
    "UPPER_IN_USE",  # not 0: some bit above an xmm register is set
    "FULL_FLAGS",  # not 0: the guest may have set EFLAGS bits other than the status flags
    "VECTORCALL",  # PyObject_Vectorcall
    "PY_CONTINUE",  # the VMAction.CONTINUE object
    "PY_DECREF",  # Py_DecRef
    # While several threads run a guest, the interpreter lock is held in Python only.
    "SHARES_PYTHON",  # not 0: it is so
    "THREAD_STATE",  # PyThreadState * of this thread, while it is without the lock
    "PY_SAVE_THREAD",  # PyEval_SaveThread
    "PY_RESTORE_THREAD",  # PyEval_RestoreThread
    "GATE_RECORDS",  # base of the gate records
    "VECTORS",  # base of this thread's callback vectors
    "SYSCALL_TABLE",  # a byte for each system call number: 0: as it is; else CALL_PYTHON and so on
    "SYSCALL_FILTER",  # the stub that looks whether one is really for Python
    # The second-level lookup table, shared by the threads of a VM.
    "L2_TABLE",
    "L2_MASK",  # (entries - 1)
    # Native excursions.
    "NATIVE_DEPTH",
    "NATIVE_TARGET",
    # A guest fault, as the kernel reported it.
    "FAULT_SIGNAL",
    "FAULT_CODE",
    "FAULT_ADDRESS",
    "FAULT_PC",
    "FAULT_TRAP",
    "FAULT_ERROR",
    "ENTER_END",  # behind the stub in slot ENTER
    "GATE_RESUME_END",
    "INTERRUPTED_REASON",  # REASON as it was when a kick came, maybe between a stub's instructions
    "KICKED",  # not 0: a kick came while host code was executing
    "STOP_REQUEST",  # not 0: somebody wants this run to stop
    "STEPPING",  # TF of EFLAGS while the guest is brought to an instruction boundary, else 0
    # Signals that the guest has a handler for, a bit each, from bit 0 for number 1.
    "PENDING",  # those that have come and are still to be delivered
    "NEWLY_BLOCKED",  # those of them that the handler has blocked
    # Counters that machine code keeps.
    "COUNT_L2_HITS",
    "COUNT_NATIVE_CALLS",
    # Whether instrumented code is executing, kept while transfers are reported; one is 1.
    "INSIDE",
    "OUTSIDE",
    "TRANSFER_TARGET",  # app address at which the ranges were left
    # Where registers rest while a memory access is recorded.
    "RECORD_0",
    "RECORD_1",
    "RECORD_2",
)

SLOT: Final = {name: 0x100 + index * 8 for index, name in enumerate(_SLOT_NAMES)} | {
    "GUEST_FS": len(GPR_NAMES) * 8,  # fs and gs of GPRState
    "GUEST_GS": len(GPR_NAMES) * 8 + 8,
}
"""Offset in bytes of each engine slot; all are 8 bytes wide."""

REASON_LOOKUP: Final = 0
REASON_GATE: Final = 1
REASON_FAULT: Final = 2
REASON_NATIVE_OVERFLOW: Final = 3
REASON_RETURNED: Final = 4
REASON_REENTERED: Final = 5
REASON_NO_STACK: Final = 6
REASON_OTHER_THREAD: Final = 7
REASON_NONE: Final = 8
REASON_KICK: Final = 9
CALL_PYTHON: Final = 1
CALL_FIRST_PATH: Final = 2
CALL_SECOND_PATH: Final = 3
CALL_DESCRIPTOR: Final = 4
"""When a system call leaves the cache, which the table of them says: always; if the path in its
first, or second, argument begins with /proc/; if the descriptor in its first one is marked."""
SYSCALL_NUMBERS: Final = 1 << 16
DESCRIPTOR_MARKS: Final = 1024
"""Bytes of the table, and bits behind it that mark descriptors; those above count as marked."""
WAIT_ABORTED: Final = -512
WAIT_BEGUN: Final = -513
"""What `waiting_call` returns when it was not made, and when the kernel had begun it and would do
so again: ERESTARTSYS and ERESTARTNOINTR, which no call returns."""
FIRST_EXIT: Final = 16
"""Reasons from here on are indices into the cache's list of exits."""

GATE_RECORD_SIZE: Final = 32
"""A gate record, 8 bytes each: offset of its callback vector, rip to show (0: TARGET), cache
address to resume at, app address of its instruction."""

VECTOR_SIZE: Final = 64
"""A callback vector, 8 bytes each: number of arguments (with `VECTORCALL_OFFSET`), callable, a word
the callee may use, and up to five arguments."""
VECTORCALL_OFFSET: Final = 1 << 63
"""PY_VECTORCALL_ARGUMENTS_OFFSET (PEP 590): the word before the arguments may be changed."""

EFLAGS_STATUS: Final = 0x8D5
"""CF PF AF ZF SF OF (SDM vol. 1, 3.4.3.1)."""
EFLAGS_FIXED: Final = 0x202
"""IF and the bit that always reads 1: what user code sees beside the flags it can change."""
EFLAGS_USER: Final = 0x244CD5
"""Flags a program may set with POPF and have run on: status, DF, NT, AC, ID; TF is left out."""

MXCSR_DEFAULT: Final = 0x1F80
FCW_DEFAULT: Final = 0x37F


def assembler_symbols() -> dict[str, int]:
    """Every constant that the assembly sources take from here, by its name there."""
    symbols = {"CTX_" + name.upper(): offset for name, offset in GPR_OFFSET.items()}
    symbols |= {"CTX_" + name: offset for name, offset in SLOT.items()}
    symbols |= {
        "CTX_FPR": FPR_OFFSET,
        "CTX_STORED_MXCSR": FPR_OFFSET + 24,
        "CTX_ZMM": ZMM_OFFSET,
        "CTX_OPMASK": OPMASK_OFFSET,
        "CTX_CACHE_RANGES": CACHE_RANGES_OFFSET,
        "CTX_NATIVE_STACK": NATIVE_STACK_OFFSET,
        "CTX_SIGINFO": SIGINFO_OFFSET,
        "SIGINFO_SHIFT": SIGINFO_SIZE.bit_length() - 1,
        "CTX_TABLE": TABLE_OFFSET,
        "NATIVE_STACK_ENTRIES": NATIVE_STACK_ENTRIES,
        "REASON_LOOKUP": REASON_LOOKUP,
        "REASON_GATE": REASON_GATE,
        "REASON_FAULT": REASON_FAULT,
        "REASON_NATIVE_OVERFLOW": REASON_NATIVE_OVERFLOW,
        "REASON_RETURNED": REASON_RETURNED,
        "REASON_REENTERED": REASON_REENTERED,
        "REASON_NO_STACK": REASON_NO_STACK,
        "REASON_OTHER_THREAD": REASON_OTHER_THREAD,
        "REASON_KICK": REASON_KICK,
        "REASON_NONE": REASON_NONE,
        "CALL_FIRST_PATH": CALL_FIRST_PATH,
        "CALL_SECOND_PATH": CALL_SECOND_PATH,
        "SYSCALL_NUMBERS": SYSCALL_NUMBERS,
        "DESCRIPTOR_MARKS": DESCRIPTOR_MARKS,
        "WAIT_ABORTED": WAIT_ABORTED,
        "WAIT_BEGUN": WAIT_BEGUN,
        "GATE_RECORD_SHIFT": GATE_RECORD_SIZE.bit_length() - 1,
        "EFLAGS_STATUS": EFLAGS_STATUS,
        "EFLAGS_FIXED": EFLAGS_FIXED,
        "EFLAGS_USER": EFLAGS_USER,
    }
    return symbols
