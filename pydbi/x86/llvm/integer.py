"""Names of the one-byte opcodes, and of the integer and system instructions of map 0f.

The language is that of `pydbi.x86.llvm.templates`. LLVM's scheme: the operation, the operand size
in bits, and a letter for each operand, destination first: ``r`` register, ``m`` memory, ``i``
immediate, with the immediate's own size where it is smaller than the operand (``ADD64mi8``).
``_REV`` marks the encoding of a register form that assemblers do not choose, ``a`` and ``i32`` in
``ADD64i32`` the one that implies the accumulator, ``o`` an absolute address.

Encodings that LLVM does not know (0f 19 to 0f 1e, shifts with /6, test with /1, ud0, int1) have
the name of what the processor executes.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ONE_BYTE", "TWO_BYTE"]

ONE_BYTE: Final = """
00 08 10 18 20 28 30 38 : ADD OR ADC SBB AND SUB XOR CMP : 8<mr|rr>
01 09 11 19 21 29 31 39 : ADD OR ADC SBB AND SUB XOR CMP : *<mr|rr>
02 0a 12 1a 22 2a 32 3a : ADD OR ADC SBB AND SUB XOR CMP : 8<rm|rr_REV>
03 0b 13 1b 23 2b 33 3b : ADD OR ADC SBB AND SUB XOR CMP : *<rm|rr_REV>
04 0c 14 1c 24 2c 34 3c : ADD OR ADC SBB AND SUB XOR CMP : 8i8
05 0d 15 1d 25 2d 35 3d : ADD OR ADC SBB AND SUB XOR CMP : *i%
50-57    : PUSH/16|64|64/r
58-5f    : POP/16|64|64/r
63       : MOVSX*r<m|r>32
68 6a    : PUSH/16i|64i32|64i32/ PUSH/16|64|64/i8
69       : IMUL*r<m|r>i#
6b       : IMUL*r<m|r>i8
6c-6f    : INSB INS/W|L|L/ OUTSB OUTS/W|L|L/
70-7f    : JCC_1
80       : {ADD|OR|ADC|SBB|AND|SUB|XOR|CMP}8<m|r>i
81       : {ADD|OR|ADC|SBB|AND|SUB|XOR|CMP}*<m|r>i#
83       : {ADD|OR|ADC|SBB|AND|SUB|XOR|CMP}*<m|r>i8
84-85    : TEST8 TEST* : <mr|rr>
86-87    : XCHG8 XCHG* : <rm|rr>
88-89    : MOV8 MOV* : <mr|rr>
8a-8b    : MOV8 MOV* : <rm|rr_REV>
8c mem   : MOV16ms
8c reg   : MOV*rs
8d       : LEA/16|64_32|64/r
8e mem   : MOV16sm
8e reg   : MOV*sr
8f       : POP/16|64|64/rm<m|r>
90       : NOOP
90 f3    : PAUSE
91-97    : XCHG*ar
98-99    : /CBW|CWDE|CDQE/ /CWD|CDQ|CQO/
9b       : WAIT
9c-9f    : PUSHF/16|64|64/ POPF/16|64|64/ SAHF LAHF
a0-a1    : MOV8 MOV* : ao(64|32)
a2-a3    : MOV8 MOV* : o(64|32)a
a4 a6 aa ac ae : MOVS CMPS STOS LODS SCAS : B
a5 a7 ab ad af : MOVS CMPS STOS LODS SCAS : /W|L|Q/
a8-a9    : TEST8i8 TEST*i%
b0-b7    : MOV8ri
b8-bf    : MOV*ri
c0       : {ROL|ROR|RCL|RCR|SHL|SHR|SHL|SAR}8<m|r>i
c1       : {ROL|ROR|RCL|RCR|SHL|SHR|SHL|SAR}*<m|r>i
d0       : {ROL|ROR|RCL|RCR|SHL|SHR|SHL|SAR}8<m|r>1
d1       : {ROL|ROR|RCL|RCR|SHL|SHR|SHL|SAR}*<m|r>1
d2       : {ROL|ROR|RCL|RCR|SHL|SHR|SHL|SAR}8<m|r>CL
d3       : {ROL|ROR|RCL|RCR|SHL|SHR|SHL|SAR}*<m|r>CL
c2-c3    : RETI/16|64|64/ RET/16|64|64/
c6       : MOV8<mi|ri_alt>
c7 mem   : MOV*mi#
c7 reg   : MOV/16ri_alt|32ri_alt|64ri32/
c6 =f8   : XABORT
c7 =f8   : XBEGIN_/2|4|4/
c8-c9    : ENTER LEAVE64
ca-cb    : LRETI* LRET*
cc-cd    : INT3 INT
cf       : IRET*
d7       : XLAT
e0-e3    : LOOPNE LOOPE LOOP J(R|E)CXZ
e4-e7    : IN8ri IN%ri OUT8ir OUT%ir
e8-e9 eb : CALL64pcrel32 JMP_4 JMP_1
ec-ef    : IN8rr IN%rr OUT8rr OUT%rr
f1 f4-f5 : INT1 HLT CMC
f6       : {TEST|TEST|NOT|NEG|MUL|IMUL|DIV|IDIV}8<m|r>
f7       : {TEST|TEST|NOT|NEG|MUL|IMUL|DIV|IDIV}*<m|r>
f6 /0-1  : TEST8<m|r>i
f7 /0-1  : TEST*<m|r>i#
f8-fd    : CLC STC CLI STI CLD STD
fe       : {INC|DEC}8<m|r>
ff /0-1  : {INC|DEC}*<m|r>
ff /2    : CALL64<m|r>
ff /4    : JMP64<m|r>
ff /3    : FARCALL*m
ff /5    : FARJMP*m
ff /6    : PUSH/16|64|64/rm<m|r>
"""

TWO_BYTE: Final = """
00 mem      : {SLDT16|STR|LLDT16|LTR|VERR|VERW}m
00 reg /0-1 : {SLDT|STR}*r
00 reg /2-5 : {||LLDT16|LTR|VERR|VERW}r
01 mem      : {SGDT64m|SIDT64m|LGDT64m|LIDT64m|SMSW16m|RSTORSSP|LMSW16m|INVLPG}
01 reg /4   : SMSW*r
01 reg /6   : LMSW16r
01 =c0-c5   : ENCLV VMCALL VMLAUNCH VMRESUME VMXOFF PCONFIG
01 =c8-cb,cf : MONITOR64rrr MWAITrr CLAC STAC ENCLS
01 =d0-d1,d4-d7 : XGETBV XSETBV VMFUNC XEND XTEST ENCLU
01 =d8-df   : VMRUN64 VMMCALL VMLOAD64 VMSAVE64 STGI CLGI SKINIT INVLPGA64
01 =e8,ee-ef : SERIALIZE RDPKRUr WRPKRUr
01 =f8-ff   : SWAPGS RDTSCP MONITORX64rrr MWAITXrrr CLZERO64r RDPRU INVLPGB64 TLBSYNC
01 66 =cf   : SEAMCALL
01 f3 =ca,e8,ea,ec-ef : ERETU SETSSBSY SAVEPREVSSP UIRET TESTUI CLUI STUI
01 f3 =fd-ff : RMPQUERY RMPADJUST PSMASH
01 f2 =ca,e8-e9,fe-ff : ERETS XSUSLDTRK XRESLDTRK RMPUPDATE PVALIDATE64
02-03       : LAR LSL : *<rm|rr>
05-09 0b    : SYSCALL CLTS SYSRET[|64] INVD WBINVD TRAP
09 f3       : WBNOINVD
0d mem      : {PREFETCH|PREFETCHW|PREFETCHWT1|PREFETCH}
0d reg      : NOOP/W|L|Q/r
0e          : FEMMS
18-1f       : NOOP/W|L|Q/<|r>
18 mem /0-3 : PREFETCH{NTA|T0|T1|T2}
18 mem /6-7 : PREFETCH{||||||IT1|IT0}
1c np mem /0 : CLDEMOTE
1e f3 reg /1 : RDSSP[D|Q]
1e f3 =fa-fb : ENDBR64 ENDBR32
20-23       : MOV64rc MOV64rd MOV64cr MOV64dr
30-35 37    : WRMSR RDTSC RDMSR RDPMC SYSENTER SYSEXIT[|64] GETSEC
40-4f       : CMOV*<rm|rr>
78-79 np    : VMREAD64<mr|rr> VMWRITE64<rm|rr>
80-8f       : JCC_4
90-9f       : SETCC<m|r>
a0-a2       : PUSHFS/16|64|64/ POPFS/16|64|64/ CPUID
a3 ab b3 bb : BT BTS BTR BTC : *<mr|rr>
a4 ac       : SHLD SHRD : *<mr|rr>i8
a5 ad       : SHLD SHRD : *<mr|rr>CL
a8-aa       : PUSHGS/16|64|64/ POPGS/16|64|64/ RSM
ae np mem /0-1,4-6 : {FXSAVE|FXRSTOR|||XSAVE|XRSTOR|XSAVEOPT}[|64]
ae np mem /2-3,7 : {||LDMXCSR|STMXCSR||||CLFLUSH}
ae np reg   : {|||||L|M|S}FENCE
ae 66 mem   : {||||||CLWB|CLFLUSHOPT}
ae 66 reg   : TPAUSE
ae f3 mem /4 : PTWRITE[|64]m
ae f3 mem /6 : CLRSSBSY
ae f3 reg /0-3 : {RDFS|RDGS|WRFS|WRGS}BASE[|64]
ae f3 reg /4 : PTWRITE[|64]r
ae f3 reg /5 : INCSSP[D|Q]
ae f3 reg /6 : UMONITOR(64|32)
ae f2 reg   : UMWAIT
af          : IMUL*<rm|rr>
b0-b1 c0-c1 : CMPXCHG8 CMPXCHG* XADD8 XADD* : <rm|rr>
b2 b4-b5    : LSS LFS LGS : *rm
b6 be       : MOVZX MOVSX : *r<m|r>8
b7 bf       : MOVZX MOVSX : *r<m|r>16
b8 f3       : POPCNT*<rm|rr>
b9          : UD1/W|L|Q/<m|r>
ba          : {||||BT|BTS|BTR|BTC}*<m|r>i8
bc-bd       : BSF BSR : *<rm|rr>
bc-bd f3    : TZCNT LZCNT : *<rm|rr>
c3          : MOVNTI[|_64]mr
c7 mem /1   : CMPXCHG[8|16]B
c7 np mem /3-5 : {|||XRSTORS|XSAVEC|XSAVES}[|64]
c7 mem /6   : VMPTRLDm
c7 mem /7   : VMPTRSTm
c7 66 mem /6 : VMCLEARm
c7 f3 mem /6 : VMXON
c7 np 66 reg /6-7 : {||||||RDRAND|RDSEED}*r
c7 f3 reg /6-7 : {||||||SENDUIPI|RDPID64}
c8-cf       : BSWAP/16r_BAD|32r|64r/
ff          : UD0/W|L|Q/<rm|rr>
"""
