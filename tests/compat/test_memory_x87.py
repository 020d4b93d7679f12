"""Memory accesses of x87 instructions, and of those that save the processor's state."""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

X87 = """
fld dword ptr [rdi] | R di:4=3020100 | same
fld qword ptr [rdi] | R di:8=706050403020100 | same
fld tbyte ptr [rdi] | R di:10=? | same
fld1 => fst dword ptr [rdi] | - | W di:4=3f800000
fld1 => fst qword ptr [rdi] | - | W di:8=3ff0000000000000
fld1 => fstp dword ptr [rdi] | - | W di:4=3f800000
fld1 => fstp qword ptr [rdi] | - | W di:8=3ff0000000000000
fld1 => fstp tbyte ptr [rdi] | - | W di:10=?
fild word ptr [rdi] | R di:2=100 | same
fild dword ptr [rdi] | R di:4=3020100 | same
fild qword ptr [rdi] | R di:8=706050403020100 | same
fld1 => fist word ptr [rdi] | - | W di:2=1
fld1 => fist dword ptr [rdi] | - | W di:4=1
fld1 => fistp qword ptr [rdi] | - | W di:8=1
fld1 => fisttp word ptr [rdi] | - | W di:2=1
fld1 => fisttp qword ptr [rdi] | - | W di:8=1
fbld tbyte ptr [rdi] | R di:10=? | same
fld1 => fbstp tbyte ptr [rdi] | - | W di:10=?
fld1 => fadd dword ptr [rdi] | R di:4=3020100 | same
fld1 => fmul qword ptr [rdi] | R di:8=706050403020100 | same
fld1 => fiadd word ptr [rdi] | R di:2=100 | same
fld1 => fidiv dword ptr [rdi] | R di:4=3020100 | same
fld1 => fcom dword ptr [rdi] | R di:4=3020100 | same
fld1 => fcomp qword ptr [rdi] | R di:8=706050403020100 | same
fnstcw [rdi] | - | W di:2=37f
mov word ptr [rdi], 0x37f => fldcw [rdi] | R di:2=37f | same
fnstsw [rdi] | - | W di:2=0
fnstsw ax | - | -
fnstenv [rdi] | - | W di:28=?
fnstenv [rdi] => fldenv [rdi] | R di:28=? | same
fnsave [rdi] | - | W di:108=?
fnsave [rdi] => frstor [rdi] | R di:108=? | same
fxsave [rdi] | - | W di:512=?
fxsave64 [rdi] | - | W di:512=?
fxsave [rdi] => fxrstor [rdi] | R di:512=? | same
fxsave64 [rdi] => fxrstor64 [rdi] | R di:512=? | same
"""
EXTENDED_STATES = """
mov eax, 3; xor edx, edx => xsave [rdi - 0x100] | R data+0x0:>=576=? | + W data+0x0:>=576=?
mov eax, 3; xor edx, edx => xsave64 [rdi - 0x100] | R data+0x0:>=576=? | + W data+0x0:>=576=?
mov eax, 7; xor edx, edx => xsaveopt [rdi - 0x100] | R data+0x0:>=576=? | + W data+0x0:>=576=?
mov eax, 3; xor edx, edx => xsavec [rdi - 0x100] | R data+0x0:>=576=? | + W data+0x0:>=576=?
mov eax, 3; xor edx, edx; xsave [r15 + 0x1000] => xrstor [r15 + 0x1000]
| R data+0x1000:>=576=? | same
"""

test_x87 = table_test(X87)
test_extended_states = table_test(EXTENDED_STATES, needs="xsaveopt xsavec")
