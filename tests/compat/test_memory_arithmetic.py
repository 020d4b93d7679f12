"""Memory accesses of integer arithmetic: one operand is read, or read and written."""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

ARITHMETIC = """
add [rdi], rax | R di:8=706050403020100 | + W di:8=1828384858687888
add [rdi], eax | R di:4=3020100 | + W di:4=58687888
add [rdi], ax | R di:2=100 | + W di:2=7888
add [rdi], al | R di:1=0 | + W di:1=88
add rax, [rdi] | R di:8=706050403020100 | same
add al, [rdi] | R di:1=0 | same
add qword ptr [rdi], 5 | R di:8=706050403020100 | + W di:8=706050403020105
add byte ptr [rdi], 5 | R di:1=0 | + W di:1=5
or dword ptr [rdi], 0x100 | R di:4=3020100 | + W di:4=3020100
stc => adc [rdi], rax | R di:8=706050403020100 | + W di:8=1828384858687889
stc => sbb word ptr [rdi], 1 | R di:2=100 | + W di:2=fe
and [rdi], al | R di:1=0 | + W di:1=0
sub rax, [rdi] | R di:8=706050403020100 | same
sub [rdi], rax | R di:8=706050403020100 | + W di:8=f5e3d1bfad9b8978
xor [rdi], eax | R di:4=3020100 | + W di:4=56647688
cmp [rdi], rax | R di:8=706050403020100 | same
cmp al, [rdi] | R di:1=0 | same
cmp byte ptr [rdi], 5 | R di:1=0 | same
test [rdi], rax | R di:8=706050403020100 | same
test dword ptr [rdi], 1 | R di:4=3020100 | same
test byte ptr [rdi], 1 | R di:1=0 | same
inc qword ptr [rdi] | R di:8=706050403020100 | + W di:8=706050403020101
inc byte ptr [rdi] | R di:1=0 | + W di:1=1
dec word ptr [rdi] | R di:2=100 | + W di:2=ff
neg dword ptr [rdi] | R di:4=3020100 | + W di:4=fcfdff00
not qword ptr [rdi] | R di:8=706050403020100 | + W di:8=f8f9fafbfcfdfeff
lock add [rdi], rax | R di:8=706050403020100 | + W di:8=1828384858687888
lock inc dword ptr [rdi] | R di:4=3020100 | + W di:4=3020101
lock not byte ptr [rdi] | R di:1=0 | + W di:1=ff
lock or dword ptr [rsp], 0 | R sp:4=c | + W sp:4=c
lock xadd [rdi], rax | R di:8=706050403020100 | + W di:8=1828384858687888
xadd [rdi], al | R di:1=0 | + W di:1=88
xadd [rdi], ecx | R di:4=3020100 | + W di:4=3020103
xchg [rdi], rax | R di:8=706050403020100 | + W di:8=1122334455667788
xchg [rdi], eax | R di:4=3020100 | + W di:4=55667788
xchg [rdi], ax | R di:2=100 | + W di:2=7788
xchg [rdi], ah | R di:1=0 | + W di:1=77
lock cmpxchg [rdi], rbx | R di:8=706050403020100 | + W di:8=706050403020100
mov rax, [rdi] => cmpxchg [rdi], rbx | R di:8=706050403020100 | + W di:8=99aabbccddeeff00
mov rax, [rdi] => lock cmpxchg [rdi], ebx | R di:4=3020100 | + W di:4=ddeeff00
cmpxchg [rdi], bl | R di:1=0 | + W di:1=0
cmpxchg [rdi], cx | R di:2=100 | + W di:2=100
cmpxchg8b [rdi] | R di:8=706050403020100 | + W di:8=706050403020100
mov eax, [rdi]; mov edx, [rdi + 4] => lock cmpxchg8b [rdi]
| R di:8=706050403020100 | + W di:8=3ddeeff00
cmpxchg16b [rdi] | R di:16=? | + W di:16=?
mov rax, [rdi]; mov rdx, [rdi + 8] => lock cmpxchg16b [rdi] | R di:16=? | + W di:16=?
"""
SHIFTS_AND_PRODUCTS = """
shl qword ptr [rdi], 1 | R di:8=706050403020100 | + W di:8=e0c0a0806040200
shl dword ptr [rdi], cl | R di:4=3020100 | + W di:4=18100800
shr word ptr [rdi], 3 | R di:2=100 | + W di:2=20
sar byte ptr [rdi], 1 | R di:1=0 | + W di:1=0
rol qword ptr [rdi], cl | R di:8=706050403020100 | + W di:8=3830282018100800
ror dword ptr [rdi], 5 | R di:4=3020100 | + W di:4=181008
stc => rcl byte ptr [rdi], 1 | R di:1=0 | + W di:1=1
clc => rcr qword ptr [rdi], cl | R di:8=706050403020100 | + W di:8=e0c0a080604020
shld [rdi], rax, 4 | R di:8=706050403020100 | + W di:8=7060504030201001
shld [rdi], eax, cl | R di:4=3020100 | + W di:4=18100802
shrd [rdi], ax, 2 | R di:2=100 | + W di:2=40
xor ecx, ecx => shl dword ptr [rdi], cl | R di:4=3020100 | + W di:4=3020100
mul qword ptr [rdi] | R di:8=706050403020100 | same
mul byte ptr [rdi] | R di:1=0 | same
imul dword ptr [rdi] | R di:4=3020100 | same
imul rax, [rdi] | R di:8=706050403020100 | same
imul eax, [rdi], 3 | R di:4=3020100 | same
imul ax, [rdi], 300 | R di:2=100 | same
xor edx, edx => div qword ptr [rdi + 8] | R di+8:8=f0e0d0c0b0a0908 | same
xor edx, edx => idiv dword ptr [rdi + 8] | R di+8:4=b0a0908 | same
mov eax, 1 => div byte ptr [rdi + 8] | R di+8:1=8 | same
seta [rdi] | - | W di:1=1
setne byte ptr [rsp - 1] | - | W sp-1:1=1
test ecx, ecx => cmovnz rax, [rdi] | R di:8=706050403020100 | same
test ecx, ecx => cmovz rax, [rdi] | R di:8=706050403020100 | same
test ecx, ecx => cmovz ax, [rdi] | R di:2=100 | same
bsf rax, [rdi] | R di:8=706050403020100 | same
bsr eax, [rdi] | R di:4=3020100 | same
"""

test_arithmetic = table_test(ARITHMETIC)
test_shifts_and_products = table_test(SHIFTS_AND_PRODUCTS)
