"""Memory accesses of AVX-512 instructions: a masked one accesses the selected elements.

Neighbours are one access, except of gathers and scatters.
"""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

NEEDS = "avx512f avx512bw avx512dq avx512vl"
SILENT = "instructions with an EVEX prefix are left out"

WHOLE = """
vmovups zmm0, [rdi] | R di:64=? | same
vmovaps [rdi - 0x100], zmm0 | - | W data+0x0:64=?
vmovdqu64 zmm0, [rdi] | R di:64=? | same
vmovdqu8 [rdi], zmm0 | - | W di:64=?
vmovdqu32 ymm16, [rdi] | R di:32=? | same
vmovdqu32 [rdi], xmm16 | - | W di:16=?
vmovntdq [rdi - 0x100], zmm0 | - | W data+0x0:64=?
vbroadcastss zmm0, [rdi] | R di:4=3020100 | same
vbroadcastf32x4 zmm0, [rdi] | R di:16=? | same
vbroadcasti64x4 zmm0, [rdi] | R di:32=? | same
vpbroadcastq zmm0, [rdi] | R di:8=706050403020100 | same
vaddps zmm0, zmm0, [rdi] | R di:64=? | same
vaddps zmm0, zmm0, dword ptr [rdi]{1to16} | R di:4=3020100 | same
vaddpd zmm0, zmm0, qword ptr [rdi]{1to8} | R di:8=706050403020100 | same
vpaddd ymm0, ymm0, dword ptr [rdi]{1to8} | R di:4=3020100 | same
vaddss xmm16, xmm16, [rdi] | R di:4=3020100 | same
vpmovzxbd zmm0, [rdi] | R di:16=? | same
vpmovdb [rdi], zmm0 | - | W di:16=?
vpmovqd [rdi], zmm0 | - | W di:32=?
vpmovwb [rdi], ymm0 | - | W di:16=?
vextracti64x4 [rdi], zmm0, 1 | - | W di:32=?
vextractf32x4 [rdi], zmm0, 1 | - | W di:16=?
vinserti32x4 zmm0, zmm0, [rdi], 1 | R di:16=? | same
vpternlogd zmm0, zmm0, [rdi], 0x96 | R di:64=? | same
vmovups zmm0, [rip + data] | R data+0x0:64=? | same
vpcmpeqd k1, zmm0, [rdi] | R di:64=? | same
"""
MASKED = """
mov eax, 5; kmovd k1, eax => vmovups zmm0{k1}, [rdi] | R di:4=? R di+8:4=? | same
mov eax, 5; kmovd k1, eax => vmovups zmm0{k1}{z}, [rdi] | R di:4=? R di+8:4=? | same
mov eax, 5; kmovd k1, eax => vmovdqu32 [rdi]{k1}, zmm0 | - | W di:4=? W di+8:4=?
mov eax, 6; kmovd k1, eax => vmovdqu64 [rdi]{k1}, ymm0 | - | W di+8:16=?
mov eax, 9; kmovd k1, eax => vmovdqu8 [rdi]{k1}, xmm0 | - | W di:1=? W di+3:1=?
mov eax, 9; kmovd k1, eax => vmovdqu16 xmm0{k1}{z}, [rdi] | R di:2=? R di+6:2=? | same
kxorw k1, k1, k1 => vmovdqu32 [rdi]{k1}, zmm0 | - | -
kxorw k1, k1, k1 => vmovups zmm0{k1}, [rdi] | - | -
mov eax, 1; kmovd k1, eax => vmovss xmm0{k1}, [rdi] | R di:4=? | same
mov eax, 1; kmovd k1, eax => vmovsd [rdi]{k1}, xmm0 | - | W di:8=?
kxorw k1, k1, k1 => vmovss [rdi]{k1}, xmm0 | - | -
mov eax, 3; kmovd k1, eax => vaddps zmm0{k1}, zmm0, [rdi] | R di:8=? | same
mov eax, 9; kmovd k1, eax => vpcompressd [rdi]{k1}, xmm0 | - | W di:8=?
mov eax, 0x55; kmovd k1, eax => vcompresspd [rdi]{k1}, zmm0 | - | W di:32=?
mov eax, 9; kmovd k1, eax => vpexpandd xmm0{k1}, [rdi] | R di:8=? | same
mov eax, 5; kmovd k1, eax; vmovdqu32 zmm2, [r15 + 0x440] => vpgatherdd zmm0{k1}, [rdi + zmm2]
| R di:4=3020100 R di+16:4=13121110 | same
kxnorw k1, k1, k1; vmovdqu32 xmm2, [r15 + 0x440] => vpgatherdd xmm0{k1}, [rdi + xmm2]
| R di:4=3020100 R di+8:4=b0a0908 R di+16:4=13121110 R di+24:4=1b1a1918 | same
kxnorw k1, k1, k1; vmovdqu32 ymm2, [r15 + 0x440] => vgatherdpd zmm0{k1}, [rdi + ymm2]
| R di:8=706050403020100 R di+8:8=f0e0d0c0b0a0908 R di+16:8=1716151413121110
R di+24:8=1f1e1d1c1b1a1918 R di+32:8=2726252423222120 R di+40:8=2f2e2d2c2b2a2928
R di+48:8=3736353433323130 R di+56:8=3f3e3d3c3b3a3938
| same
kxnorw k1, k1, k1; vpmovzxdq zmm2, [r15 + 0x440] => vpgatherqd ymm0{k1}, [rdi + zmm2]
| R di:4=3020100 R di+8:4=b0a0908 R di+16:4=13121110 R di+24:4=1b1a1918 R di+32:4=23222120
R di+40:4=2b2a2928 R di+48:4=33323130 R di+56:4=3b3a3938
| same
kxnorw k1, k1, k1; vmovdqu32 xmm2, [r15 + 0x440] => vpscatterdd [rdi + xmm2]{k1}, xmm0
| - | W di:4=13121110 W di+8:4=17161514 W di+16:4=1b1a1918 W di+24:4=1f1e1d1c
mov eax, 5; kmovd k1, eax; vmovdqu32 ymm2, [r15 + 0x440] => vpscatterdq [rdi + ymm2]{k1}, zmm0
| - | W di:8=1716151413121110 W di+16:8=0
kxnorw k1, k1, k1; vpmovzxdq ymm2, [r15 + 0x440] => vscatterqpd [rdi + ymm2]{k1}, ymm0
| - | W di:8=1716151413121110 W di+8:8=1f1e1d1c1b1a1918 W di+16:8=0 W di+24:8=0
"""
OPMASKS = """
kmovw k1, [rdi] | R di:2=100 | same
kmovb k1, [rdi] | R di:1=0 | same
kmovd k1, [rdi] | R di:4=3020100 | same
kmovq k1, [rdi] | R di:8=706050403020100 | same
mov eax, 0x1bf; kmovd k1, eax => kmovw [rdi], k1 | - | W di:2=1bf
mov eax, 0x1bf; kmovd k1, eax => kmovb [rdi], k1 | - | W di:1=bf
mov eax, 0x1bf; kmovd k1, eax => kmovd [rdi], k1 | - | W di:4=1bf
mov eax, 0x1bf; kmovd k1, eax => kmovq [rdi], k1 | - | W di:8=1bf
"""

test_whole = table_test(WHOLE, needs=NEEDS, silent=SILENT)
test_masked = table_test(MASKED, needs=NEEDS, silent=SILENT)
test_opmasks = table_test(OPMASKS, needs=NEEDS)
