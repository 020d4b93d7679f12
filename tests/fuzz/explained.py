"""What the fuzzer does not compare, each with the reason: the only table of exceptions.

`CUT`: a case ends before such an instruction, on the processor and under the engine alike, and
the state there is compared. `REFUSED`: the reasons for which the engine may stop a case where the
processor goes on; the state there is compared too.
"""

from __future__ import annotations

CUT = {
    "system call": "it would act on the world outside the guest",
    "hypervisor call": "it would act on the world outside the guest",
    "time or chance": "each execution gives another value",
    "processor state": "the kernel or the hypervisor emulates it, or it depends on the core",
    "x87 pointers": "it stores where the last x87 instruction was: not promised (transparency.md)",
    "extended state": "it stores which components are in use, and x87's last instruction",
    "mov ss": "the processor takes no single-step trap behind it",
    "selector": "guest and host share ES and DS: the next case would see it",
    "far": "refused (limits.md); the processor would change CS",
    "rep on itself": "a step fetches what a repeated instruction has put in its own place; the "
    "processor may go on with what it began (not compared at all)",
    "popf": "it would set TF: single-stepping cannot be told from it",
}
"""The kinds of instructions that are not executed, and why."""

REFUSED = (
    "a branch to a 16-bit address",
    "it loads FS or GS with a selector",
    "a gather, scatter, tile or direct store through GS with 32-bit addresses",
    "a bit test with the offset in a register through GS with 32-bit addresses",
    "a far branch",
)
"""`UnsupportedInstruction.reason`, from the table in limits.md."""

_CUT_BY_OPCODE = {
    b"\x0f\x05": "system call",
    b"\x0f\x34": "system call",
    b"\xcd\x80": "system call",
    b"\x0f\x01\xc1": "hypervisor call",
    b"\x0f\x01\xd9": "hypervisor call",
    b"\x0f\x31": "time or chance",
    b"\x0f\x33": "time or chance",
    b"\x0f\x01\xf9": "time or chance",
    b"\x0f\x01\xfd": "time or chance",
    b"\x0f\xa2": "processor state",
    b"\x0f\x01\xd0": "processor state",
    b"\x0f\x02": "processor state",
    b"\x0f\x03": "processor state",
    b"\xca": "far",
    b"\xcb": "far",
    b"\xcf": "far",
}
"""Opcodes as they begin, behind the prefixes."""

_CUT_BY_MODRM: dict[bytes, dict[int, tuple[str, str]]] = {
    b"\x0f\x00": dict.fromkeys((0, 1), ("processor state",) * 2),
    b"\x0f\x01": {
        0: ("processor state", ""),
        1: ("processor state", ""),
        4: ("processor state", "processor state"),
    },
    b"\x0f\xae": {0: ("x87 pointers", ""), 4: ("extended state", ""), 6: ("extended state", "")},
    b"\x0f\xc7": {
        4: ("extended state", ""),
        5: ("extended state", ""),
        6: ("", "time or chance"),
        7: ("", "time or chance"),
    },
    b"\x0f\xb2": dict.fromkeys(range(8), ("mov ss", "")),
    b"\x8e": {
        0: ("selector", "selector"),
        2: ("mov ss", "mov ss"),
        3: ("selector", "selector"),
    },
    b"\xd9": {6: ("x87 pointers", "")},
    b"\xdd": {6: ("x87 pointers", "")},
    b"\xff": {3: ("far", ""), 5: ("far", "")},
}
"""Opcode, ModRM.reg: the kind with a memory operand and with a register."""


def cut_reason(code: bytes, bare: bytes) -> str:
    """Return why the case ends before the instruction at the start of *code*, or "".

    Args:
        bare: the same without prefixes.
    """
    kind = _CUT_BY_OPCODE.get(bare[:3]) or _CUT_BY_OPCODE.get(bare[:2])
    kind = kind or _CUT_BY_OPCODE.get(bare[:1]) or ""
    for length in (1, 2):
        group = _CUT_BY_MODRM.get(bare[:length])
        if group is not None and len(bare) > length:
            modrm = bare[length]
            memory, register = group.get(modrm >> 3 & 7, ("", ""))
            kind = kind or (register if modrm >= 0xC0 else memory)
    return kind


_PREFIXES_OF_TOO_LONG = 4
"""Without so many an instruction has at most 15 bytes (SDM volume 2, 2.1)."""
_NEAR_RETURNS = (0xC2, 0xC3)
_SIGSEGV, _SI_KERNEL = 11, 128


def is_branch_to_nowhere(
    bare: bytes,
    wanted: tuple[int, int, int],
    found: tuple[int, int, int],
    app_address: int,
) -> bool:
    """Whether a return or indirect branch led to a non-canonical address.

    The processor raises #GP at the branch. The engine looks the target up behind the branch, and
    reports the same fault there, with the state as the branch leaves it.

    Args:
        bare: the bytes of the instruction that raised the signal natively, without prefixes.
        wanted, found: signal, si_code and address natively and under the engine.
        app_address: where the engine reports a fault.
    """
    is_return = bare[:1] != b"" and bare[0] in _NEAR_RETURNS
    is_branch = bare[:1] == b"\xff" and len(bare) > 1 and bare[1] >> 3 & 7 in (2, 4)
    canonical = app_address >> 47 in (0, 0x1FFFF)
    same = tuple(wanted) == tuple(found) == (_SIGSEGV, _SI_KERNEL, 0)
    return (is_return or is_branch) and same and not canonical


def is_too_long(wanted: tuple[int, int, int], prefix_count: int) -> bool:
    """Whether bytes without an instruction may be more than 15 that would otherwise be one.

    The processor raises #GP, not #UD, for these; for the engine both are a `DecodeError`.
    """
    return wanted == (_SIGSEGV, _SI_KERNEL, 0) and prefix_count >= _PREFIXES_OF_TOO_LONG


def is_locked_move(wanted: tuple[int, int, int], bare: bytes) -> bool:
    """Whether it is `mov` to or from a control register with LOCK.

    AMD's processors take it for CR8, which is privileged; to others it is undefined.
    """
    return wanted == (_SIGSEGV, _SI_KERNEL, 0) and bare[:2] in (b"\x0f\x20", b"\x0f\x22")


def is_undefined_at_the_end(wanted: tuple[int, int, int], at: int) -> bool:
    """Whether the bytes at *at* run into a page that may not be executed.

    The processor wants the rest of an instruction before it looks at the opcode; the decoder knows
    earlier that there is none.
    """
    return wanted[0] == _SIGSEGV and wanted[2] & 0xFFF == 0 and 0 < wanted[2] - at < 15
