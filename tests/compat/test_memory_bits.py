"""Memory accesses of bit instructions, and of the extensions of the integer instructions."""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

BITS = """
bt dword ptr [rdi], 3 | R di:4=3020100 | same
bt qword ptr [rdi], 70 | R di:8=706050403020100 | same
bts word ptr [rdi], 4 | R di:2=100 | + W di:2=110
btr qword ptr [rdi], 1 | R di:8=706050403020100 | + W di:8=706050403020100
btc dword ptr [rdi], 31 | R di:4=3020100 | + W di:4=83020100
lock bts qword ptr [rdi], 5 | R di:8=706050403020100 | + W di:8=706050403020120
bt [rdi], ecx | R di:4=3020100 | same
mov eax, 100 => bt [rdi], rax | R di+8:8=f0e0d0c0b0a0908 | same
! the bit offset is left out of the address | R di:8=706050403020100 | same
mov rax, -100 => bt [rdi], rax | R di-16:8=f7f6f5f4f3f2f1f0 | same
! the bit offset is left out of the address | R di:8=706050403020100 | same
mov eax, 100 => bts [rdi], rax | R di+8:8=f0e0d0c0b0a0908 | + W di+8:8=f0e0d1c0b0a0908
! the bit offset is left out of the address | R di:8=706050403020100 | + W di:8=706050403020100
mov eax, 98 => btr [rdi], eax | R di+12:4=f0e0d0c | + W di+12:4=f0e0d08
! the bit offset is left out of the address | R di:4=3020100 | + W di:4=3020100
mov eax, 100 => btc [rdi], ax | R di+12:2=d0c | + W di+12:2=d1c
! the bit offset is left out of the address | R di:2=100 | + W di:2=100
mov rax, -1 => lock bts [rdi], rax | R di-8:8=fffefdfcfbfaf9f8 | + W di-8:8=fffefdfcfbfaf9f8
! the bit offset is left out of the address | R di:8=706050403020100 | + W di:8=706050403020100
mov eax, -33 => bts [rdi], eax | R di-8:4=fbfaf9f8 | + W di-8:4=fbfaf9f8
! the bit offset is left out of the address | R di:4=3020100 | + W di:4=3020100
movnti [rdi], rax | - | W di:8=1122334455667788
movnti [rdi], eax | - | W di:4=55667788
mov rbx, rdi; mov eax, 4 => xlatb | R di+4:1=4 | same
"""
EXTENSIONS = """
popcnt rax, [rdi] | R di:8=706050403020100 | same
popcnt ax, [rdi] | R di:2=100 | same
lzcnt rax, [rdi] | R di:8=706050403020100 | same
tzcnt eax, [rdi] | R di:4=3020100 | same
movbe rax, [rdi] | R di:8=706050403020100 | same
movbe eax, [rdi] | R di:4=3020100 | same
movbe ax, [rdi] | R di:2=100 | same
movbe [rdi], rax | - | W di:8=8877665544332211
movbe [rdi], ax | - | W di:2=8877
andn rax, rcx, [rdi] | R di:8=706050403020100 | same
bextr eax, [rdi], ecx | R di:4=3020100 | same
blsi rax, [rdi] | R di:8=706050403020100 | same
blsmsk eax, [rdi] | R di:4=3020100 | same
blsr rax, [rdi] | R di:8=706050403020100 | same
bzhi rax, [rdi], rcx | R di:8=706050403020100 | same
mulx rax, rbx, [rdi] | R di:8=706050403020100 | same
pdep rax, rcx, [rdi] | R di:8=706050403020100 | same
pext eax, ecx, [rdi] | R di:4=3020100 | same
rorx rax, [rdi], 3 | R di:8=706050403020100 | same
sarx rax, [rdi], rcx | R di:8=706050403020100 | same
shlx eax, [rdi], ecx | R di:4=3020100 | same
shrx rax, [rdi], rcx | R di:8=706050403020100 | same
adcx rax, [rdi] | R di:8=706050403020100 | same
adox eax, [rdi] | R di:4=3020100 | same
crc32 eax, byte ptr [rdi] | R di:1=0 | same
crc32 rax, qword ptr [rdi] | R di:8=706050403020100 | same
"""

test_bits = table_test(BITS)
test_extensions = table_test(EXTENSIONS, needs="popcnt abm movbe bmi1 bmi2 adx sse4_2")
