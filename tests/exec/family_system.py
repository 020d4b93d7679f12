"""What is neither arithmetic nor control flow: system calls, CPUID, segments, odd prefixes."""

from __future__ import annotations

from tests.exec.family_gs import through_gs
from tests.exec.snippets import Group, Writer

_GETPID = 39

SIMPLE = [
    ["xor ecx, ecx", "xgetbv"],
    ["xor eax, eax", "xor ecx, ecx", "cpuid"],
    ["mov eax, 0x80000002", "cpuid"],
    ["mov eax, 7", "xor ecx, ecx", "cpuid"],
    ["mov rax, fs:[0]"],
    ["mov rbx, qword ptr fs:[0x10]"],
    ["xor eax, eax", "mov rdx, fs:[rax]"],
    ["mov rax, -8", "add rdx, fs:[rax + 24]"],
    ["endbr64"],
    ["mov ax, fs"],
    ["mov eax, ds", "mov edx, cs", "mov ebx, ss"],
    ["xor edx, edx", "lsl eax, edx"],
    ["xor edx, edx", "verr dx"],
    ["nop word ptr cs:[rax + rax*1 + 0x0]"],
]
BY_FEATURE = {
    "fsgsbase": [["rdfsbase rax"], ["rdfsbase rbx", "wrfsbase rbx"], ["rdfsbase edx"],
                 ["rdfsbase rax", "mov rax, [rax]"]],
    "clflushopt": [["clflushopt [rip + data + 4096]"]],
}  # fmt: skip
# Another value each time: it is forgotten before the end.
TIMELY = {
    "tsc": ["rdtsc", "xor eax, eax", "xor edx, edx"],
    "rdtscp": ["rdtscp", "xor eax, eax", "xor edx, edx", "xor ecx, ecx"],
    "rdpid": ["rdpid rax", "xor eax, eax"],
    "rdrand": ["rdrand eax", "mov eax, 0"],
}
# Prefixes without effect, and sizes that only prefixes give. Each is one group of lines.
PREFIXES = [
    [".byte 0x40; push rax", "pop rbx"],
    [".byte 0x4E; nop"],
    [".byte 0x66; nop", ".byte 0x66, 0x66; nop", ".byte 0xF2; nop"],
    [".byte 0x48; add rax, rdx"],  # two REX prefixes: the last one counts
    [".byte 0x41; .byte 0x66; add eax, edx"],  # REX before a legacy prefix: ignored
    [".byte 0x66, 0x48; add eax, ebx"],  # 66h with REX.W
    [".byte 0x2E; mov rax, [rip + data + 4096]"],
    [".byte 0x3E; add dword ptr [rip + data + 4096], eax"],
    [".byte 0x64; lea rax, [rip + data + 8]"],
    [".byte 0x65; lea rax, [rdx + 8]"],
    [".byte 0x67; lea rax, [rdx + 8]"],
    ["lea rax, [eip + data + 16]"],
    ["lea ebx, [eip + data + 16]"],
    ["lea ax, [rip + data + 16]"],
    [".byte 0xF3; mov rax, rdx"],
    [".byte 0xF2; add rax, rbx"],
    [".byte 0xF3, 0x66; add ax, bx"],
    ["rep nop"],
    [".byte 0x66; cwde", ".byte 0x48, 0x98"],
    [".byte 0x66, 0x90", ".byte 0x0F, 0x1F, 0x84, 0x00, 0, 0, 0, 0"],
    [".byte 0xC0, 0xF0, 3"],  # SAL's other encoding (/6)
    [".byte 0xF6, 0xC8, 7"],  # TEST's other encoding (/1)
    [".byte 0x66, 0x0F, 0xC8"],  # BSWAP of 16 bits: undefined, but the CPU's own
    [".byte 0x8D, 0x44, 0x24, 0x10"],  # lea eax, [rsp + 16]
    [".byte 0x0F, 0x18, 0x25; .long 0"],  # a hint with a RIP-relative operand
]
LOW = [
    ["mov rax, qword ptr [eip + data + 4096]"],
    ["add dword ptr [eip + data + 4096], 77"],
    ["lea rbx, [rip + data + 4096]", "mov eax, [ebx + 4]"],
    ["lea rbx, [rip + data + 4096]", "movups [ebx], xmm2"],
    ["push qword ptr [eip + data + 4096]"],
]


def system_call(writer: Writer) -> Group:
    """getpid, which leaves the address of what follows in rcx and the flags in r11."""
    writer.steps_vary = True
    return [f"mov eax, {_GETPID}", "syscall"]


def counted(writer: Writer) -> Group:
    """Branches with prefixes that change nothing or only the size of the counter."""
    rng = writer.rng
    head = writer.label()
    kind = rng.randrange(6)
    if kind == 0:  # ecx counts, the upper half of rcx is not looked at but cleared
        return [f"mov rcx, {0x500000000 + rng.randrange(1, 5)}", f"{head}: inc eax",
                f".byte 0x67; loop {head}"]  # fmt: skip
    if kind == 1:
        return ["mov rcx, 0x100000000", f"jecxz {head}", "inc eax", f"{head}:"]
    if kind == 2:  # branch hints
        return [f".byte {rng.choice(('0x2E', '0x3E'))}; jz {head}", "inc eax", f"{head}:"]
    if kind == 3:
        return [f".byte 0x48; jmp {head}", "inc eax", f"{head}:"]
    if kind == 4:
        return [f".byte 0xF2; jnz {head}", "inc eax", f"{head}:"]
    return [f"lea rax, [rip + {head}]", ".byte 0x48; jmp rax", "ud2", f"{head}:"]


def system(writer: Writer) -> Group:
    """One group of any kind above."""
    rng = writer.rng
    kind = rng.randrange(13)
    if kind >= 10:
        return through_gs(writer)
    if kind == 0:
        return system_call(writer)
    if kind < 3:
        return counted(writer)
    if kind < 7:
        return list(rng.choice(PREFIXES))
    if kind == 7 and rng.random() < 0.5:
        writer.low_only = True
        return list(rng.choice(LOW))
    tables = [SIMPLE, *(table for name, table in BY_FEATURE.items() if name in writer.features)]
    if rng.random() < 0.2:
        writer.steps_vary = True
        tables = [[lines for name, lines in TIMELY.items() if name in writer.features]]
    return list(rng.choice(rng.choice(tables)))
