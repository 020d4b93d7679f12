"""Memory accesses of string instructions, in both directions, once and repeated.

Before a repeated one its reads have no size; after it there is one record for all that it did.
"""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

ONCE = """
lodsb | R si:1=0 | same
lodsw | R si:2=100 | same
lodsd | R si:4=3020100 | same
lodsq | R si:8=706050403020100 | same
stosb | - | W di:1=88
stosw | - | W di:2=7788
stosd | - | W di:4=55667788
stosq | - | W di:8=1122334455667788
movsb | R si:1=0 | + W di:1=0
movsw | R si:2=100 | + W di:2=100
movsd | R si:4=3020100 | + W di:4=3020100
movsq | R si:8=706050403020100 | + W di:8=706050403020100
scasb | R di:1=0 | same
scasw | R di:2=100 | same
scasd | R di:4=3020100 | same
scasq | R di:8=706050403020100 | same
cmpsb | R si:1=0 R di:1=0 | same
cmpsw | R si:2=100 R di:2=100 | same
cmpsd | R si:4=3020100 R di:4=3020100 | same
cmpsq | R si:8=706050403020100 R di:8=706050403020100 | same
std => lodsq | R si:8=706050403020100 | same
std => stosd | - | W di:4=55667788
std => movsw | R si:2=100 | + W di:2=100
std => scasb | R di:1=0 | same
std => cmpsq | R si:8=706050403020100 R di:8=706050403020100 | same
lodsb gs:[rsi] | R si:1=0 | same
movsb [rdi], gs:[rsi] | R si:1=0 | + W di:1=0
mov rbx, rdi; mov eax, 4 => xlatb gs:[rbx] | R di+4:1=4 | same
lodsd [esi] | R si:4=3020100 | same
stosb [edi] | - | W di:1=88
"""
REPEATED = """
rep movsb | R si:?=? | R si:3=? W di:3=?
rep movsw | R si:?=? | R si:6=? W di:6=?
rep movsd | R si:?=? | R si:12=? W di:12=?
rep movsq | R si:?=? | R si:24=? W di:24=?
rep stosb | - | W di:3=?
rep stosw | - | W di:6=?
rep stosd | - | W di:12=?
rep stosq | - | W di:24=?
rep lodsb | R si:?=? | R si:3=?
rep lodsq | R si:?=? | R si:24=?
std => rep movsb | R si:?=? | R si-2:3=? W di-2:3=?
std => rep movsw | R si:?=? | R si-4:6=? W di-4:6=?
std => rep movsd | R si:?=? | R si-8:12=? W di-8:12=?
std => rep movsq | R si:?=? | R si-16:24=? W di-16:24=?
std => rep stosb | - | W di-2:3=?
std => rep stosd | - | W di-8:12=?
std => rep stosq | - | W di-16:24=?
std => rep lodsd | R si:?=? | R si-8:12=?
xor ecx, ecx => rep movsb | R si:?=? | R si:0=? W di:0=?
xor ecx, ecx => rep stosq | - | W di:0=?
xor ecx, ecx => repe cmpsb | R si:?=? R di:?=? | R si:0=? R di:0=?
xor ecx, ecx => repne scasb | R di:?=? | R di:0=?
mov ecx, 1 => rep movsq | R si:?=? | R si:8=? W di:8=?
repe cmpsb | R si:?=? R di:?=? | R si:3=? R di:3=?
repne cmpsb | R si:?=? R di:?=? | R si:1=? R di:1=?
mov rsi, rdi => repe cmpsb | R di:?=? R di:?=? | R di:3=? R di:3=?
mov rsi, rdi => repe cmpsd | R di:?=? R di:?=? | R di:12=? R di:12=?
repne cmpsq | R si:?=? R di:?=? | R si:8=? R di:8=?
std => repne cmpsw | R si:?=? R di:?=? | R si:2=? R di:2=?
std; mov rsi, rdi => repe cmpsd | R di:?=? R di:?=? | R di-8:12=? R di-8:12=?
mov eax, 2; mov ecx, 10 => repne scasb | R di:?=? | R di:3=?
mov eax, 2 => repe scasb | R di:?=? | R di:1=?
repne scasw | R di:?=? | R di:6=?
repne scasq | R di:?=? | R di:24=?
std => repne scasb | R di:?=? | R di-2:3=?
std => repne scasd | R di:?=? | R di-8:12=?
mov ecx, 100 => rep stosb | - | W di:100=?
rep movsb es:[edi], [esi] | R si:?=? | R si:3=? W di:3=?
rep movsb [rdi], gs:[rsi] | R si:?=? | R si:3=? W di:3=?
"""

test_once = table_test(ONCE)
test_repeated = table_test(REPEATED)
