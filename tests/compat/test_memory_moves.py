"""Memory accesses of moves of general registers, and of instructions that only name an address."""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

MOVES = """
mov rax, [rdi] | R di:8=706050403020100 | same
mov eax, [rdi + 4] | R di+4:4=7060504 | same
mov ax, [rdi] | R di:2=100 | same
mov al, [rdi] | R di:1=0 | same
mov ah, [rdi + 1] | R di+1:1=1 | same
mov bh, [rdi + rcx] | R di+3:1=3 | same
mov rax, [rdi + r8*8 + 16] | R di+32:8=2726252423222120 | same
mov rax, [rdi + r9] | R di-2:8=50403020100fffe | same
mov rax, [rbp - 8] | R sp+56:8=5138 | same
mov rax, [rsp + 8] | R sp+8:8=5108 | same
mov rax, [rip + data] | R data+0x0:8=706050403020100 | same
mov eax, [rip + data + 5] | R data+0x5:4=8070605 | same
mov [rdi], rax | - | W di:8=1122334455667788
mov [rdi], eax | - | W di:4=55667788
mov [rdi], ax | - | W di:2=7788
mov [rdi], al | - | W di:1=88
mov [rdi], ah | - | W di:1=77
mov qword ptr [rdi], -2 | - | W di:8=fffffffffffffffe
mov dword ptr [rdi], 0x12345678 | - | W di:4=12345678
mov word ptr [rdi], 0x1234 | - | W di:2=1234
mov byte ptr [rdi], 0x12 | - | W di:1=12
mov [rip + data + 3], rax | - | W data+0x3:8=1122334455667788
movabs al, [0x10000008001] | R data+0x1:1=1 | same
! recording it ends the process | SIGSEGV | -
movabs rax, [0x10000008010] | R data+0x10:8=1716151413121110 | same
! recording it ends the process | SIGSEGV | -
movabs eax, [0x10000008010] | R data+0x10:4=13121110 | same
! recording it ends the process | SIGSEGV | -
movabs ax, [0x10000008010] | R data+0x10:2=1110 | same
! recording it ends the process | SIGSEGV | -
movabs [0x10000008010], rax | - | W data+0x10:8=1122334455667788
! recording it ends the process | SIGSEGV | -
movabs [0x10000008010], al | - | W data+0x10:1=88
! recording it ends the process | SIGSEGV | -
movzx eax, byte ptr [rdi + 3] | R di+3:1=3 | same
movzx rax, word ptr [rdi + 3] | R di+3:2=403 | same
movsx eax, byte ptr [rdi + 0x90] | R data+0x190:1=90 | same
movsx rax, word ptr [rdi + 3] | R di+3:2=403 | same
movsxd rax, dword ptr [rdi + 4] | R di+4:4=7060504 | same
mov word ptr [rdi], 0 => mov ds, [rdi] | R di:2=0 | same
mov [rdi], ds | - | W di:2=0
mov [rdi], es | - | W di:2=0
lea rax, [rdi] | - | -
nop dword ptr [rdi] | - | -
prefetcht0 [rdi] | - | -
prefetchw [rdi] | - | -
clflush [rdi] | - | -
bswap rax | - | -
"""
NARROW_ADDRESSES = """
mov rax, [edi] | R di:8=706050403020100 | same
! recording it ends the process | SIGABRT | -
mov [edi + 4], ax | - | W di+4:2=7788
! recording it ends the process | SIGABRT | -
mov rax, [r9d + edi] | R di-2:8=50403020100fffe | same
! recording it ends the process | SIGABRT | -
mov rax, [eip + data] | R data+0x0:8=706050403020100 | same
! recording it ends the process | SIGABRT | -
add dword ptr [edi], 5 | R di:4=3020100 | + W di:4=3020105
! recording it ends the process | SIGABRT | -
push qword ptr [edi] | R di:8=706050403020100 | + W sp-8:8=706050403020100
! recording it ends the process | SIGABRT | -
"""

test_moves = table_test(MOVES)
test_narrow_addresses = table_test(NARROW_ADDRESSES)
