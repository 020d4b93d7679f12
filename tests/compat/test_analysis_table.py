"""A table of instructions with all that their analysis says: see `test_analysis` for its words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.test_analysis import Analysed, Row, fields_of, operands_of, parse

TABLE = r"""
nop
: \tnop
: NOOP 1
: -
ret
: \tret
: RET64 1 flow return load=8
: rsp:8=rw@15*
ret 16
: \tret\t0x10
: RETI64 3 flow return load=8
: 0x10:2 rsp:8=rw@15*
jmp end
: \tjmp\t0x0
: JMP_1 2 flow branch
: 0x0:1^
jmp rax
: \tjmp\trax
: JMP64r 2 flow branch
: rax:8=r@0
jmp [rax]
: \tjmp\tqword ptr [rax]
: JMP64m 2 flow branch load=8
: rax:8=r@0& 0x1:8& none& 0x0:8& none&
je end
: \tje\t0x0
: JCC_1 2 flow branch equals flags=r
: 0x0:1^
jg end
: \tjg\t0x0
: JCC_1 2 flow branch great flags=r
: 0x0:1^
jns end
: \tjns\t0x0
: JCC_1 2 flow branch not_sign flags=r
: 0x0:1^
jp end
: \tjp\t0x0
: JCC_1 2 flow branch even flags=r
: 0x0:1^
call end
: \tcall\t0x0
: CALL64pcrel32 5 flow call store=8
: 0x0:4^ rsp:8=rw@15* ssp:8=r@s-1*
call rbx
: \tcall\trbx
: CALL64r 2 flow call store=8
: rbx:8=r@1 rsp:8=rw@15* ssp:8=r@s-1*
call [rip + data]
: \tcall\tqword ptr [rip + 0x7ffa]
: CALL64m 6 flow call load=8 store=8
: rip:8=r@16& 0x1:8& none& 0x7ffa:8& none& rsp:8=rw@15* ssp:8=r@s-1*
loop end
: \tloop\t0x0
: LOOP 2 flow branch
: 0x0:1^ rcx:8=rw@2*
jrcxz end
: \tjrcxz\t0x0
: JRCXZ 2 flow branch
: 0x0:1^ rcx:8=r@2*
mov rax, rbx
: \tmov\trax, rbx
: MOV64rr 3
: rax:8=w@0 rbx:8=r@1
mov eax, 5
: \tmov\teax, 0x5
: MOV32ri 5 moveimm
: eax:4=w@0 0x5:4
mov rax, -1
: \tmov\trax, -0x1
: MOV64ri32 7 moveimm
: rax:8=w@0 -0x1:4
movabs rax, 0x1122334455667788
: \tmovabs\trax, 0x1122334455667788
: MOV64ri 10 moveimm
: rax:8=w@0 0x1122334455667788:8
mov al, ah
: \tmov\tal, ah
: MOV8rr 2
: al:1=w@0 ah:1=r@0+8
mov [rdi + rcx*4 + 16], edx
: \tmov\tdword ptr [rdi + 4*rcx + 0x10], edx
: MOV32mr 4 store=4
: rdi:8=r@5& 0x4:8& rcx:8=r@2& 0x10:8& none& edx:4=r@3
mov rax, [rip + data]
: \tmov\trax, qword ptr [rip + 0x7ff9]
: MOV64rm 7 load=8
: rax:8=w@0 rip:8=r@16& 0x1:8& none& 0x7ff9:8& none&
mov rax, fs:[0x28]
: \tmov\trax, qword ptr fs:[0x28]
: MOV64rm 9 load=8
: rax:8=w@0 none& 0x1:8& none& 0x28:8& fs:2=r@s-1&
movzx eax, byte ptr [rsi]
: \tmovzx\teax, byte ptr [rsi]
: MOVZX32rm8 3 load=1
: eax:4=w@0 rsi:8=r@4& 0x1:8& none& 0x0:8& none&
movsxd rax, ecx
: \tmovsxd\trax, ecx
: MOVSX64rr32 3
: rax:8=w@0 ecx:4=r@2
lea rax, [rdi + rdi*2]
: \tlea\trax, [rdi + 2*rdi]
: LEA64r 4
: rax:8=w@0 rdi:8=r@5? 0x2:8? rdi:8=r@5? 0x0:8? none?
add rax, [rdi]
: \tadd\trax, qword ptr [rdi]
: ADD64rm 3 load=8 flags=w
: rax:8=rw@0 rdi:8=r@5& 0x1:8& none& 0x0:8& none&
add qword ptr [rdi], 5
: \tadd\tqword ptr [rdi], 0x5
: ADD64mi8 4 load=8 store=8 flags=w
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& 0x5:1
add eax, 0x12345
: \tadd\teax, 0x12345
: ADD32i32 5 flags=w
: 0x12345:4 eax:4=rw@0*
adc cl, 1
: \tadc\tcl, 0x1
: ADC8ri 3 flags=rw
: cl:1=rw@2 0x1:1
sub rsp, 0x20
: \tsub\trsp, 0x20
: SUB64ri8 4 compare flags=w
: rsp:8=rw@15 0x20:1
cmp rax, rbx
: \tcmp\trax, rbx
: CMP64rr 3 compare flags=w
: rax:8=r@0 rbx:8=r@1
cmp byte ptr [rdi], 0
: \tcmp\tbyte ptr [rdi], 0x0
: CMP8mi 3 compare load=1 flags=w
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& 0x0:1
test eax, eax
: \ttest\teax, eax
: TEST32rr 2 compare flags=w
: eax:4=r@0 eax:4=r@0
xor eax, eax
: \txor\teax, eax
: XOR32rr 2 flags=w
: eax:4=rw@0 eax:4=r@0
and ax, [rdi]
: \tand\tax, word ptr [rdi]
: AND16rm 3 load=2 flags=w
: ax:2=rw@0 rdi:8=r@5& 0x1:8& none& 0x0:8& none&
inc dword ptr [rdi]
: \tinc\tdword ptr [rdi]
: INC32m 2 load=4 store=4 flags=w
: rdi:8=r@5& 0x1:8& none& 0x0:8& none&
neg rax
: \tneg\trax
: NEG64r 3 flags=w
: rax:8=rw@0
shl rax, 4
: \tshl\trax, 0x4
: SHL64ri 4 flags=w
: rax:8=rw@0 0x4:1
shr qword ptr [rdi], cl
: \tshr\tqword ptr [rdi], cl
: SHR64mCL 3 load=8 store=8 flags=w
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& cl:1=r@2*
imul rax, rbx, 7
: \timul\trax, rbx, 0x7
: IMUL64rri8 4 flags=w
: rax:8=w@0 rbx:8=r@1 0x7:1
mul rcx
: \tmul\trcx
: MUL64r 3 flags=w
: rcx:8=r@2 rax:8=rw@0* rdx:8=w@3*
div dword ptr [rdi]
: \tdiv\tdword ptr [rdi]
: DIV32m 2 load=4 flags=w
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& eax:4=rw@0* edx:4=rw@3*
push rax
: \tpush\trax
: PUSH64r 1 store=8
: rax:8=r@0 rsp:8=rw@15*
push 5
: \tpush\t0x5
: PUSH64i8 2 store=8
: 0x5:1 rsp:8=rw@15*
push qword ptr [rdi]
: \tpush\tqword ptr [rdi]
: PUSH64rmm 2 load=8 store=8
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& rsp:8=rw@15*
pop rbx
: \tpop\trbx
: POP64r 1 load=8
: rbx:8=w@1 rsp:8=rw@15*
pop [rdi]
: \tpop\tqword ptr [rdi]
: POP64rmm 2 load=8 store=8
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& rsp:8=rw@15*
pushfq
: \tpushfq
: PUSHF64 1 store=8 flags=r
: rsp:8=rw@15*
popfq
: \tpopfq
: POPF64 1 load=8 flags=w
: rsp:8=rw@15*
leave
: \tleave
: LEAVE64 1 load=8
: rbp:8=rw@14* rsp:8=rw@15*
enter 16, 0
: \tenter\t0x10, 0x0
: ENTER 4 store=8
: 0x10:2 0x0:2
xchg [rdi], rax
: \txchg\tqword ptr [rdi], rax
: XCHG64rm 3 load=8 store=8
: rax:8=rw@0 rdi:8=r@5& 0x1:8& none& 0x0:8& none&
lock xadd [rdi], rax
: \tlock\t\txadd\tqword ptr [rdi], rax
: XADD64rm 5 load=8 store=8 flags=w
: rax:8=rw@0 rdi:8=r@5& 0x1:8& none& 0x0:8& none&
lock cmpxchg [rdi], rbx
: \tlock\t\tcmpxchg\tqword ptr [rdi], rbx
: CMPXCHG64rm 5 load=8 store=8 flags=w
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& rbx:8=r@1 rax:8=rw@0*
cmpxchg16b [rdi]
: \tcmpxchg16b\txmmword ptr [rdi]
: CMPXCHG16B 4 load=16 store=16 flags=w
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& rax:8=rw@0* rbx:8=r@1* rcx:8=r@2* rdx:8=rw@3*
bt [rdi], eax
: \tbt\tdword ptr [rdi], eax
: BT32mr 3 load=4 flags=w
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& eax:4=r@0
cmove rax, rbx
: \tcmove\trax, rbx
: CMOV64rr 4 equals flags=r
: rax:8=rw@0 rbx:8=r@1
cmovg eax, [rdi]
: \tcmovg\teax, dword ptr [rdi]
: CMOV32rm 3 load=4 great flags=r
: eax:4=rw@0 rdi:8=r@5& 0x1:8& none& 0x0:8& none&
setne al
: \tsetne\tal
: SETCCr 3 not_equals flags=r
: al:1=w@0
seta [rdi]
: \tseta\tbyte ptr [rdi]
: SETCCm 3 store=1 above flags=r
: rdi:8=r@5& 0x1:8& none& 0x0:8& none&
movsb
: \tmovsb\tbyte ptr es:[rdi], byte ptr [rsi]
: MOVSB 1 load=1 store=1 flags=r
: rdi:8=r@5& rsi:8=r@4& none& edi:4=rw@5* esi:4=rw@4*
rep movsq
: \trep\t\tmovsq\tqword ptr es:[rdi], qword ptr [rsi]
: MOVSQ 3 load=8 store=8 flags=r
: rdi:8=r@5& rsi:8=r@4& none& edi:4=rw@5* esi:4=rw@4*
rep stosd
: \trep\t\tstosd\tdword ptr es:[rdi], eax
: STOSL 2 store=4 flags=r
: rdi:8=r@5& eax:4=r@0* edi:4=rw@5*
repne scasb
: \trepne\t\tscasb\tal, byte ptr es:[rdi]
: SCASB 2 load=1 flags=rw
: rdi:8=r@5& al:1=r@0* edi:4=rw@5*
lodsw
: \tlodsw\tax, word ptr [rsi]
: LODSW 2 load=2 flags=r
: rsi:8=r@4& none& esi:4=rw@4* ax:2=w@0*
cmpsq
: \tcmpsq\tqword ptr [rsi], qword ptr es:[rdi]
: CMPSQ 2 load=8 flags=rw
: rdi:8=r@5& rsi:8=r@4& none& edi:4=rw@5* esi:4=rw@4*
syscall
: \tsyscall
: SYSCALL 2
: -
cpuid
: \tcpuid
: CPUID 2
: eax:4=rw@0* ecx:4=rw@2* ebx:4=w@1* edx:4=w@3*
rdtsc
: \trdtsc
: RDTSC 2
: rax:8=w@0* rdx:8=w@3*
ud2
: \tud2
: TRAP 2
: -
int3
: \tint3
: INT3 1
: -
endbr64
: \tendbr64
: ENDBR64 4
: -
pause
: \tpause
: PAUSE 2
: -
mfence
: \tmfence
: MFENCE 3
: -
prefetcht0 [rdi]
: \tprefetcht0\tbyte ptr [rdi]
: PREFETCHT0 3
: rdi:8=r@5& 0x1:8& none& 0x0:8& none&
xgetbv
: \txgetbv
: XGETBV 3
: ecx:4=r@2* edx:4=w@3* eax:4=w@0*
movaps xmm0, [rdi]
: \tmovaps\txmm0, xmmword ptr [rdi]
: MOVAPSrm 3 load=16
: xmm0:16=w@f160 rdi:8=r@5& 0x1:8& none& 0x0:8& none&
movups [rdi], xmm1
: \tmovups\txmmword ptr [rdi], xmm1
: MOVUPSmr 3 store=16
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& xmm1:16=r@f176
movd xmm0, eax
: \tmovd\txmm0, eax
: MOVDI2PDIrr 4
: xmm0:16=w@f160 eax:4=r@0
addsd xmm0, xmm1
: \taddsd\txmm0, xmm1
: ADDSDrr_Int 4
: xmm0:16=rw@f160 xmm1:16=r@f176 mxcsr:4=r@f24*
pxor xmm2, xmm3
: \tpxor\txmm2, xmm3
: PXORrr 4
: xmm2:16=rw@f192 xmm3:16=r@f208
ucomiss xmm0, [rdi]
: \tucomiss\txmm0, dword ptr [rdi]
: UCOMISSrm 3 load=4 flags=w
: xmm0:16=r@f160 rdi:8=r@5& 0x1:8& none& 0x0:8& none& mxcsr:4=r@f24*
cvtsi2sd xmm0, rax
: \tcvtsi2sd\txmm0, rax
: CVTSI642SDrr_Int 5
: xmm0:16=rw@f160 rax:8=r@0 mxcsr:4=r@f24*
pshufd xmm0, xmm1, 3
: \tpshufd\txmm0, xmm1, 0x3
: PSHUFDri 5
: xmm0:16=w@f160 xmm1:16=r@f176 0x3:1
vaddpd ymm0, ymm1, [rdi]
: \tvaddpd\tymm0, ymm1, ymmword ptr [rdi]
: VADDPDYrm 4 load=32
: ymm0:32=w@f512 ymm1:32=r@f528 rdi:8=r@5& 0x1:8& none& 0x0:8& none& mxcsr:4=r@f24*
vpxor xmm0, xmm1, xmm2
: \tvpxor\txmm0, xmm1, xmm2
: VPXORrr 4
: xmm0:16=w@f160 xmm1:16=r@f176 xmm2:16=r@f192
vzeroupper
: \tvzeroupper
: VZEROUPPER 3
: ymm0:32=w@f512* ymm1:32=w@f528* ymm2:32=w@f544* ymm3:32=w@f560* ymm4:32=w@f576* ymm5:32=w@f592*
  ymm6:32=w@f608* ymm7:32=w@f624* ymm8:32=w@f640* ymm9:32=w@f656* ymm10:32=w@f672* ymm11:32=w@f688*
  ymm12:32=w@f704* ymm13:32=w@f720* ymm14:32=w@f736* ymm15:32=w@f752*
fld qword ptr [rdi]
: \tfld\tqword ptr [rdi]
: LD_F64m 2 load=8
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& fpcw:2=r@f0* fpsw:2=w@f2*
fstp tbyte ptr [rdi]
: \tfstp\ttbyte ptr [rdi]
: ST_FP80m 2 store=10
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& fpcw:2=r@f0* fpsw:2=w@f2*
fadd st, st(1)
: \tfadd\tst, st(1)
: ADD_FST0r 2
: st1:10=r@f48 fpcw:2=r@f0* fpsw:2=w@f2*
fnstcw [rdi]
: \tfnstcw\tword ptr [rdi]
: FNSTCW16m 2 store=2
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& fpcw:2=r@f0* fpsw:2=w@f2*
ldmxcsr [rdi]
: \tldmxcsr\tdword ptr [rdi]
: LDMXCSR 3 load=4
: rdi:8=r@5& 0x1:8& none& 0x0:8& none& mxcsr:4=w@f24*
movq mm0, [rdi]
: \tmovq\tmm0, qword ptr [rdi]
: MMX_MOVQ64rm 3 load=8
: mm0:8=w@f32 rdi:8=r@5& 0x1:8& none& 0x0:8& none&
popcnt rax, [rdi]
: \tpopcnt\trax, qword ptr [rdi]
: POPCNT64rm 5 load=8 flags=w
: rax:8=w@0 rdi:8=r@5& 0x1:8& none& 0x0:8& none&
andn rax, rbx, rcx
: \tandn\trax, rbx, rcx
: ANDN64rr 5 flags=w
: rax:8=w@0 rbx:8=r@1 rcx:8=r@2
bswap eax
: \tbswap\teax
: BSWAP32r 2
: eax:4=rw@0
cdqe
: \tcdqe
: CDQE 2
: eax:4=r@0* rax:8=w@0*
cqo
: \tcqo
: CQO 2
: rax:8=rw@0* rdx:8=w@3*
cld
: \tcld
: CLD 1 flags=w
: -
xlatb
: \txlatb
: XLAT 1 load=1
: al:1=rw@0* ebx:4=r@1*
"""
ROWS = parse(TABLE)


@pytest.mark.parametrize("row", ROWS, ids=[row.text for row in ROWS])
def test_instruction(qbdi: Any, row: Row) -> None:
    g = Analysed(qbdi, row.text)
    analysis = g.analysis()
    assert analysis.address == g.base
    assert analysis.disassembly == row.disassembly.replace("\\t", "\t")
    assert fields_of(qbdi, analysis) == row.fields
    assert operands_of(qbdi, analysis) == row.operands
