"""Sequences written by hand, for what random ones meet too seldom; the CPU is the oracle too."""

from __future__ import annotations

import pytest

from tests.exec import campaign
from tests.exec.native_runner import cpu_flags
from tests.exec.snippets import Snippet

_COLLIDING = "\n".join(  # functions whose addresses have the low 16 bits in common
    ["jmp L@_start", *(f".balign 0x10000\nL@_f{n}: add eax, {n + 1}\nret" for n in range(6))]
)

SNIPPETS = {
    "GS base of its own": """
        lea rax, [rip + data + 4096]; wrgsbase rax
        mov rbx, gs:[8]; add gs:[16], rbx; rdgsbase rcx
        xor edx, edx; movups xmm1, gs:[rdx + 24]; movups gs:[rdx + 64], xmm2
        push qword ptr gs:[40]; pop qword ptr gs:[48]; inc dword ptr gs:[rdx + 4]
        cmp qword ptr gs:[0], 77; vaddps ymm3, ymm4, gs:[rdx + 100]
        mov esi, 3; lea rdi, gs:[rsi + 8]; lock xadd gs:[rsi + 8], rdi
        lea r8, [rip + L@_1]; mov gs:[200], r8; jmp gs:[200]; ud2; L@_1:
        lea r8, [rip + L@_2]; mov gs:[200], r8; call gs:[200]; jmp L@_3; L@_2: ret; L@_3:
        xor eax, eax; wrgsbase rax""",
    "GS base by arch_prctl": """
        mov eax, 158; mov edi, 0x1001; lea rsi, [rip + data + 4096]; syscall
        mov rbx, gs:[8]; mov eax, 158; mov edi, 0x1004; lea rsi, [rip + data]; syscall
        mov r8, [rip + data]; mov eax, 158; mov edi, 0x1001; xor esi, esi; syscall
        xor r11d, r11d""",
    "FS base by arch_prctl": """
        mov eax, 158; mov edi, 0x1003; lea rsi, [rip + data]; syscall
        xor r11d, r11d; mov r8, [rip + data]; mov r9, fs:[0]""",
    "FS base of its own": """
        rdfsbase rbx; lea rax, [rip + data + 4096]; wrfsbase rax; mov rcx, fs:[8]
        add fs:[16], rcx; push qword ptr fs:[24]; pop rdx; wrfsbase rbx; xor ebx, ebx""",
    "FS base set by arch_prctl": """
        rdfsbase rbx; mov eax, 158; mov edi, 0x1002; lea rsi, [rip + data + 4096]; syscall
        mov r8, fs:[8]; mov rsi, rbx; mov edi, 0x1002; mov eax, 158; syscall
        xor r11d, r11d; xor ebx, ebx; xor esi, esi""",
    "a system call of 32-bit programs": "mov eax, 20; int 0x80",
    "system calls that fail, and system calls with memory": """
        mov eax, 3; mov edi, -1; syscall; mov r8, rax
        mov eax, 63; lea rdi, [rip + data + 64]; syscall; mov r9, rax
        mov eax, 9999; syscall; xor r11d, r11d""",
    "rcx and r11 after a system call": "mov eax, 39; stc; syscall; nop; lea rbx, [rip]",
    "AC": """
        mov ebx, 0x40202; push rbx; popfq; mov rdx, [rip + data + 4096]; add rdx, 5
        push 0x202; popfq""",
    "AC seen by PUSHF": """
        mov ebx, 0x40203; push rbx; popfq; nop; pushfq; pop rcx; and ecx, 0x40AFF
        push 0x202; popfq""",
    "prefixes up to 15 bytes": """
        .byte 0x2E,0x2E,0x2E,0x2E,0x2E,0x2E,0x2E,0x2E,0x2E,0x2E,0x2E,0x2E,0x2E,0x01,0xC0
        .byte 0x2E,0x2E,0x2E,0x2E; add qword ptr [rip + data + 64], 0x12345678
        .byte 0x36,0x3E; lock add qword ptr [rip + data + 64], 0x12345678
        .byte 0xEB,0; .byte 0x75,0; .byte 0xE8,0,0,0,0; pop rax
        .byte 0x2E; jmp L@_1; nop; L@_1: .byte 0x3E; call L@_2; L@_2: pop rax""",
    "RIP-relative operands before immediates of every size": """
        lock add qword ptr [rip + data + 64], 0x12345678; lock bts dword ptr [rip + data], 7
        test dword ptr [rip + data], 5; shld [rip + data], eax, 4; rol byte ptr [rip + data], 3
        imul eax, [rip + data], 1234567; cmp word ptr [rip + data], 0x1234
        mov word ptr [rip + data + 6], 0x7788; pshufd xmm1, [rip + data + 4096], 0x1B
        vpalignr xmm2, xmm3, [rip + data + 4100], 5; push qword ptr [rip + data + 8]
        cmp byte ptr [rip + data], -1; mov byte ptr [rip + data + 9], 0x55
        pop qword ptr [rip + data]""",
    "ID": "push 0x200202; popfq; nop; pushfq; pop rcx; and ecx, 0x200AFF; push 0x202; popfq",
    "DF over calls and branches": """
        std; call L@_f; jmp L@_end; L@_f: lea rdi, [rip + data + 4096]; mov ecx, 5; rep stosb
        cmp ecx, 1; jb L@_g; nop; L@_g: ret; L@_end: cld""",
    "red zone over a call-less function": """
        mov [rsp - 128], rax; movups [rsp - 112], xmm0; mov qword ptr [rsp - 8], 5
        add qword ptr [rsp - 8], 6; jne L@_1; ud2; L@_1: lea rax, [rip + L@_2]; jmp rax; L@_2:
        mov rbx, [rsp - 128]; cmp [rsp - 8], rbx; movups xmm1, [rsp - 112]; mov ecx, 3
        L@_3: add [rsp - 72], rcx; loop L@_3""",
    "ENTER with the deepest nesting": "lea rbp, [rsp + 0x100]; enter 64, 31; mov rax, [rbp - 8]",
    "return to another place, over and over": """
        mov ecx, 20; L@_h: lea rax, [rip + L@_a]; test cl, 1; lea rdx, [rip + L@_b]; cmovz rax, rdx
        push rax; ret; L@_a: add rbx, 1; jmp L@_n; L@_b: add rbx, 256; L@_n: dec ecx; jnz L@_h""",
    "functions whose addresses collide": _COLLIDING + """
        L@_start: xor eax, eax; mov ecx, 40; L@_h: lea rdx, [rip + L@_f0]
        mov ebx, ecx; and ebx, 3; shl ebx, 16; add rdx, rbx; call rdx
        call L@_f4; call L@_f5; loop L@_h""",
    "a recursive Fibonacci": """
        jmp L@_s; L@_f: cmp edi, 2; jb L@_l; push rbx; mov ebx, edi; dec edi; call L@_f
        push rax; lea edi, [rbx - 2]; call L@_f; pop rdx; add eax, edx; pop rbx; ret
        L@_l: mov eax, edi; ret; L@_s: mov edi, 9; call L@_f""",
    "a long block": "; ".join(f"add eax, {n}; ror rax, 3" for n in range(700)),
    "a long block of RIP-relative operands": "; ".join(
        f"add eax, [rip + data + {4096 + n}]; mov [rip + data + {4096 + n}], al" for n in range(200)
    ),
    "one branch after the other": "; ".join(f"jc L@_{n}; cmc; L@_{n}:" for n in range(150)),
    "REP of many pages' worth": """
        lea rsi, [rip + data]; lea rdi, [rip + data + 4096]; mov ecx, 4096; rep movsb
        lea rdi, [rip + data]; mov ecx, 512; xor eax, eax; rep stosq
        lea rdi, [rip + data]; mov ecx, -1; mov al, [rip + data + 4100]; repne scasb""",
    "FXSAVE and FXRSTOR": """
        fxsave64 [rip + data + 0x1400]; mov qword ptr [rip + data + 0x1408], 0
        mov qword ptr [rip + data + 0x1410], 0; mov word ptr [rip + data + 0x1406], 0
        paddd xmm3, xmm4; fld1; fxrstor64 [rip + data + 0x1400]
        fxsave [rip + data + 0x1000]; mov qword ptr [rip + data + 0x1008], 0
        mov qword ptr [rip + data + 0x1010], 0; mov word ptr [rip + data + 0x1006], 0""",
    "XSAVE of all that there is, and XRSTOR": """
        mov eax, 0xE7; xor edx, edx; lea rbx, [rip + data + 0x1000]; vaddps ymm5, ymm6, ymm7
        mov ecx, 8; lea rdi, [rbx + 512]; L@_z: mov qword ptr [rdi + rcx*8 - 8], 0; loop L@_z
        xsave64 [rbx]; vpxor ymm3, ymm3, ymm3; vpxor ymm4, ymm3, ymm3; fldpi; xrstor64 [rbx]
        xor eax, eax; mov [rbx + 6], ax; mov [rbx + 8], rax; mov [rbx + 16], rax
        mov [rbx + 512], rax""",
    "stores and loads of MXCSR around rounding": """
        mov dword ptr [rip + data], 0x5F80; ldmxcsr [rip + data]; cvtsd2si eax, xmm0
        mov dword ptr [rip + data], 0x3F80; vldmxcsr [rip + data]; cvtsd2si ebx, xmm0
        stmxcsr [rip + data + 8]; divss xmm1, xmm2; vstmxcsr [rip + data + 16]""",
    "x87 and MMX in turn": """
        fninit; fld1; fldpi; fmulp; fstp tbyte ptr [rip + data]; movq mm0, [rip + data]
        paddw mm0, mm0; movq [rip + data + 16], mm0; emms; fldl2e; fistp dword ptr [rip + data]""",
}  # fmt: skip
_NEEDS = {
    "GS base of its own": "fsgsbase",
    "FS base of its own": "fsgsbase",
    "FS base set by arch_prctl": "fsgsbase",
}
_VARYING = ("GS base", "FS base", "a system call", "system call", "rcx", "AC seen", "ID", "AC")


def _snippet(name: str) -> Snippet:
    lines = [line.strip() for line in SNIPPETS[name].strip().splitlines()]
    pointers = {"r13": 0x1000, "r14": 0x1010, "r15": 0xFF0}
    return Snippet(name, 1, [lines], pointers, "r12", steps_vary=name.startswith(_VARYING))


@pytest.mark.parametrize("name", SNIPPETS)
@pytest.mark.parametrize("place", ["low", "near"])
def test_runs_as_on_the_cpu(name: str, place: str) -> None:
    """The sequence leaves the same registers and memory behind, with callbacks and without."""
    feature = _NEEDS.get(name, "fpu")
    if feature not in cpu_flags():
        pytest.skip(f"this CPU has no {feature}")
    with campaign.Worker() as worker:
        failures = campaign.run_in(worker, [_snippet(name)], place=place)
    if "32-bit" in name and any(failure.mode == "native" for failure in failures):
        pytest.skip("this kernel has no system calls of 32-bit programs")
    assert not failures, "\n".join(campaign.describe(failure) for failure in failures)
