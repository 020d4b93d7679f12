"""What the engine must know about an instruction, as bits of one integer.

The low five bits are the flow kind (one of the names up to XBEGIN), the bits above are flags.
"""

from __future__ import annotations

from typing import Final

#: ``traits & FLOW_MASK`` is the flow kind.
FLOW_MASK: Final = 31

#: Execution goes on behind the instruction.
PLAIN: Final = 0
#: Direct jump: e9, eb.
JMP: Final = 1
#: Conditional jump: 70-7f, 0f 80-8f.
JCC: Final = 2
#: loopne, loope, loop, jrcxz and jecxz: e0-e3.
LOOP: Final = 3
#: Direct call: e8.
CALL: Final = 4
#: Near jump through a register or memory: ff /4.
JMP_INDIRECT: Final = 5
#: Near call through a register or memory: ff /2.
CALL_INDIRECT: Final = 6
#: Near return: c2, c3.
RET: Final = 7
#: Far jumps, calls and returns, iret, sysenter, sysexit, sysret.
FAR: Final = 8
#: 0f 05. The only flow kind that does not end a basic block.
SYSCALL: Final = 9
#: Always traps or faults into the kernel in user mode: int3, int n, ud2, hlt, privileged ones.
TRAP: Final = 10
#: c7 f8: begins a transaction; its operand is the abort handler's relative address.
XBEGIN: Final = 11

#: Flow kinds that end a basic block, as a bit set over the kinds.
ENDS_BLOCK: Final = sum(
    1 << kind
    for kind in (JMP, JCC, LOOP, CALL, JMP_INDIRECT, CALL_INDIRECT, RET, FAR, TRAP, XBEGIN)
)


def ends_block(traits: int) -> bool:
    """Whether an instruction with these traits is the last of its block."""
    return bool(ENDS_BLOCK >> (traits & FLOW_MASK) & 1)


#: The memory operand is relative to RIP (lea and no-op forms included).
RIP: Final = 1 << 5
#: With RIP: the address is truncated to 32 bits by an address-size prefix.
ADDR32: Final = 1 << 6
#: Memory is accessed through GS.
GS: Final = 1 << 7
#: Memory is accessed through FS.
FS: Final = 1 << 8
#: rdgsbase, wrgsbase.
GSBASE: Final = 1 << 9
#: rdfsbase, wrfsbase.
FSBASE: Final = 1 << 10
#: FS or GS is loaded with a selector, which changes its base too: mov, pop, lfs, lgs.
SEGMENT_LOAD: Final = 1 << 11
#: x87 or MMX register state may be read or written (fxsave and xsave families included).
X87: Final = 1 << 12
#: SSE instruction in its legacy encoding (xmm registers or MXCSR).
SSE: Final = 1 << 13
#: VEX or XOP encoding.
AVX: Final = 1 << 14
#: EVEX encoding, or opmask registers (k0-k7), or the xsave family.
AVX512: Final = 1 << 15
#: May change EFLAGS bits other than CF PF AF ZF SF OF: cld, std, popf, cli, sti, iret.
SYSTEM_FLAGS: Final = 1 << 16
#: String instruction with a repeat prefix: an interrupt can stop it half way.
REP_STRING: Final = 1 << 17
#: Near branch with operand-size prefix and without REX.W. Intel processors ignore the prefix;
#: AMD processors truncate the target to 16 bits.
PREFIX66_BRANCH: Final = 1 << 18

#: Traits that `scan_block` leaves out: the instruction is copied verbatim all the same.
VERBATIM: Final = FS | SSE | AVX

#: Names for people, in bit order above the flow kind.
FLAG_NAMES: Final = (
    "RIP", "ADDR32", "GS", "FS", "GSBASE", "FSBASE", "SEGMENT_LOAD", "X87", "SSE", "AVX",
    "AVX512", "SYSTEM_FLAGS", "REP_STRING", "PREFIX66_BRANCH",
)  # fmt: skip
FLOW_NAMES: Final = (
    "PLAIN", "JMP", "JCC", "LOOP", "CALL", "JMP_INDIRECT", "CALL_INDIRECT", "RET", "FAR",
    "SYSCALL", "TRAP", "XBEGIN",
)  # fmt: skip


def describe(traits: int) -> str:
    """Return the names of all bits of *traits*, such as ``"JMP_INDIRECT|RIP"``."""
    names = [FLOW_NAMES[traits & FLOW_MASK]]
    names += [name for bit, name in enumerate(FLAG_NAMES, 5) if traits >> bit & 1]
    return "|".join(names)
