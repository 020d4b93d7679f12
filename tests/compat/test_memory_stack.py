"""Memory accesses of the stack instructions, of branches, and through segments."""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

STACK = """
push rax | - | W sp-8:8=1122334455667788
push ax | - | W sp-2:2=7788
push 5 | - | W sp-8:8=5
push 0x12345678 | - | W sp-8:8=12345678
pushw 5 | - | W sp-2:2=5
push qword ptr [rdi] | R di:8=706050403020100 | + W sp-8:8=706050403020100
push word ptr [rdi] | R di:2=100 | + W sp-2:2=100
push rsp | - | W sp-8:8=1000000ef00
push qword ptr [rsp + 8] | R sp+8:8=5108 | + W sp-8:8=5108
push fs | - | W sp-8:8=0
! left out | - | -
pop rax | R sp:8=target | same
pop ax | R sp:2=9 | same
pop rsp | R sp:8=target | same
pop qword ptr [rdi] | R sp:8=target | + W di:8=target
pop word ptr [rdi] | R sp:2=a | + W di:2=a
pop qword ptr [rsp] | R sp:8=target | + W sp+8:8=target
pop qword ptr [rsp + 8] | R sp:8=target | + W sp+16:8=target
push 0x202; popfq => pushfq | - | W sp-8:8=202
push 0x202; popfq => pushfw | - | W sp-2:2=202
push 0x202 => popfq | R sp-8:8=202 | same
push 0x202; push 0; pop ax => popfw | R sp-14:2=0 | same
call target | - | W sp-8:8=behind
lea rax, [rip + target] => call rax | - | W sp-8:8=behind
call [rip + data + 0x480] | R data+0x480:8=target | + W sp-8:8=behind
call [r15 + 0x480] | R data+0x480:8=target | + W sp-8:8=behind
ret | R sp:8=target | same
ret 16 | R sp:8=target | same
lea rax, [rip + target] => jmp rax | - | -
jmp [rip + data + 0x480] | R data+0x480:8=target | same
jmp [r15 + r8*8 + 0x470] | R data+0x480:8=target | same
jmp target | - | -
jz target | - | -
loop target | - | -
jrcxz target | - | -
enter 0, 0 | - | W sp-8:8=1000000ef40
enter 32, 0 | - | W sp-8:8=1000000ef40
enter 16, 1 | - | W sp-8:8=1000000ef40 W sp-16:8=1000000eef8
! the frame pointers are left out | - | W sp-8:8=1000000ef40
enter 16, 3
| R sp+56:8=5138 R sp+48:8=5130
| + W sp-8:8=1000000ef40 W sp-16:8=5138 W sp-24:8=5130 W sp-32:8=1000000eef8
! the frame pointers are left out | - | W sp-8:8=1000000ef40
leave | R bp:8=5140 | same
leavew | R bp:2=5140 | same
! the operand size is left out | R bp:8=5140 | same
lea rbp, [rsp] => leave | R sp:8=target | same
cmp rcx, 3 => setz [rsp + 7] | - | W sp+7:1=1
"""
SEGMENTS = """
mov rax, fs:[0] | R fs:8=fs | same
! the base of FS is left out | R 0x0:8=fs | same
mov rax, fs:[0x10] | R fs+16:8=fs | same
! the base of FS is left out | R 0x10:8=fs | same
mov rax, fs:[0x10] => mov fs:[0x10], rax | - | W fs+16:8=fs
! the base of FS is left out | - | W 0x10:8=fs
xor eax, eax => mov rax, fs:[rax] | R fs:8=fs | same
! the base of FS is left out | R 0x0:8=fs | same
mov rax, gs:[rdi] | R di:8=706050403020100 | same
mov gs:[rdi], ax | - | W di:2=7788
add qword ptr gs:[rdi], 1 | R di:8=706050403020100 | + W di:8=706050403020101
mov rax, cs:[rdi] | R di:8=706050403020100 | same
mov rax, ss:[rdi] | R di:8=706050403020100 | same
mov rax, ds:[rsp] | R sp:8=target | same
"""

test_stack = table_test(STACK)
test_segments = table_test(SEGMENTS)
