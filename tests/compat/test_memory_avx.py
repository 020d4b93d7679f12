"""Memory accesses of AVX instructions."""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

AVX = """
vmovss xmm0, [rdi] | R di:4=3020100 | same
vmovsd [rdi], xmm0 | - | W di:8=1716151413121110
vmovaps ymm0, [rdi] | R di:32=? | same
vmovups ymm0, [rdi + 1] | R di+1:32=? | same
vmovaps [rdi], ymm0 | - | W di:32=?
vmovdqu [rdi + 1], ymm0 | - | W di+1:32=?
vmovdqa xmm0, [rdi] | R di:16=? | same
vmovdqa [rdi], xmm0 | - | W di:16=?
vmovntdq [rdi], ymm0 | - | W di:32=?
vmovntdqa ymm0, [rdi] | R di:32=? | same
vlddqu ymm0, [rdi] | R di:32=? | same
vmovq xmm0, qword ptr [rdi] | R di:8=706050403020100 | same
vmovd dword ptr [rdi], xmm0 | - | W di:4=13121110
vmovhps xmm0, xmm0, [rdi] | R di:8=706050403020100 | same
vmovlpd [rdi], xmm0 | - | W di:8=1716151413121110
vmovddup ymm0, [rdi] | R di:32=? | same
vmovddup xmm0, [rdi] | R di:8=706050403020100 | same
vbroadcastss xmm0, [rdi] | R di:4=3020100 | same
vbroadcastss ymm0, [rdi] | R di:4=3020100 | same
vbroadcastsd ymm0, [rdi] | R di:8=706050403020100 | same
vbroadcastf128 ymm0, [rdi] | R di:16=? | same
vbroadcasti128 ymm0, [rdi] | R di:16=? | same
vpbroadcastb ymm0, [rdi] | R di:1=0 | same
vpbroadcastw xmm0, [rdi] | R di:2=100 | same
vpbroadcastd ymm0, [rdi] | R di:4=3020100 | same
vpbroadcastq xmm0, [rdi] | R di:8=706050403020100 | same
vaddss xmm0, xmm0, [rdi] | R di:4=3020100 | same
vaddpd ymm0, ymm0, [rdi] | R di:32=? | same
vaddps xmm0, xmm0, [rdi] | R di:16=? | same
vfmadd231sd xmm0, xmm0, [rdi] | R di:8=706050403020100 | same
vfmadd132ps ymm0, ymm0, [rdi] | R di:32=? | same
vpaddd ymm0, ymm0, [rdi] | R di:32=? | same
vpshufb ymm0, ymm0, [rdi] | R di:32=? | same
vpmovzxbw ymm0, [rdi] | R di:16=? | same
vpmovzxbd ymm0, [rdi] | R di:8=706050403020100 | same
vpmovzxbq ymm0, [rdi] | R di:4=3020100 | same
vpmovsxwd xmm0, [rdi] | R di:8=706050403020100 | same
vinsertf128 ymm0, ymm0, [rdi], 1 | R di:16=? | same
vinserti128 ymm0, ymm0, [rdi], 0 | R di:16=? | same
vextractf128 [rdi], ymm0, 1 | - | W di:16=?
vextracti128 [rdi], ymm0, 1 | - | W di:16=?
vperm2f128 ymm0, ymm0, [rdi], 1 | R di:32=? | same
vpermq ymm0, [rdi], 1 | R di:32=? | same
vcvtps2pd ymm0, [rdi] | R di:16=? | same
vcvtpd2ps xmm0, ymmword ptr [rdi] | R di:32=? | same
vcvtph2ps ymm0, [rdi] | R di:16=? | same
vcvtps2ph [rdi], ymm0, 0 | - | W di:16=?
vptest ymm0, [rdi] | R di:32=? | same
mov dword ptr [rdi], 0x1f80; vldmxcsr [rdi] => vstmxcsr [rdi] | - | W di:4=1f80
mov dword ptr [rdi], 0x1f80 => vldmxcsr [rdi] | R di:4=1f80 | same
vmovups ymm0, [rip + data] | R data+0x0:32=? | same
"""
MASKED = """
vpcmpeqd ymm1, ymm1, ymm1 => vmaskmovps ymm0, ymm1, [rdi] | R di:32=? | same
vmovdqu ymm1, [r15 + 0x400] => vmaskmovps ymm0, ymm1, [rdi]
| R di:4=? R di+8:4=? R di+16:4=? R di+24:4=? | same
! the mask is left out | R di:32=? | same
vmovdqu xmm1, [r15 + 0x400] => vpmaskmovd xmm0, xmm1, [rdi] | R di:4=? R di+8:4=? | same
! the mask is left out | R di:16=? | same
vmovdqu xmm1, [r15 + 0x400] => vpmaskmovd [rdi], xmm1, xmm0 | - | W di:4=? W di+8:4=?
! the mask is left out, and a read is made up | R di:16=? | + W di:16=?
vpmovsxdq ymm1, [r15 + 0x400] => vmaskmovpd [rdi], ymm1, ymm0 | - | W di:8=? W di+16:8=?
! the mask is left out, and a read is made up | R di:32=? | + W di:32=?
vpcmpeqd ymm1, ymm1, ymm1 => vpmaskmovq [rdi], ymm1, ymm0 | - | W di:32=?
! the mask is left out, and a read is made up | R di:32=? | + W di:32=?
vpxor xmm1, xmm1, xmm1 => vmaskmovps [rdi], ymm1, ymm0 | - | -
! the mask is left out, and a read is made up | R di:32=? | + W di:32=?
vmovdqu xmm2, [r15 + 0x440]; vpcmpeqd xmm1, xmm1, xmm1 => vpgatherdd xmm0, [rdi + xmm2], xmm1
| R di:4=3020100 R di+8:4=b0a0908 R di+16:4=13121110 R di+24:4=1b1a1918
| same
! left out | - | -
vmovdqu ymm2, [r15 + 0x440]; vpcmpeqd ymm1, ymm1, ymm1 => vpgatherdd ymm0, [rdi + ymm2*2], ymm1
| R di:4=3020100 R di+16:4=13121110 R di+32:4=23222120 R di+48:4=33323130
R data+0x140:4=43424140 R data+0x150:4=53525150 R data+0x160:4=63626160
R data+0x170:4=73727170
| same
! left out | - | -
vmovdqu xmm2, [r15 + 0x440]; vpcmpeqd xmm1, xmm1, xmm1 => vpgatherdq xmm0, [rdi + xmm2], xmm1
| R di:8=706050403020100 R di+8:8=f0e0d0c0b0a0908
| same
! left out | - | -
vpmovzxdq xmm2, [r15 + 0x440]; vpcmpeqd xmm1, xmm1, xmm1 => vpgatherqd xmm0, [rdi + xmm2], xmm1
| R di:4=3020100 R di+8:4=b0a0908
| same
! left out | - | -
vpmovzxdq ymm2, [r15 + 0x440]; vpcmpeqd ymm1, ymm1, ymm1 => vpgatherqq ymm0, [rdi + ymm2], ymm1
| R di:8=706050403020100 R di+8:8=f0e0d0c0b0a0908 R di+16:8=1716151413121110
R di+24:8=1f1e1d1c1b1a1918
| same
! left out | - | -
vmovdqu xmm2, [r15 + 0x440]; vmovdqu xmm1, [r15 + 0x400] => vgatherdps xmm0, [rdi + xmm2], xmm1
| R di:4=3020100 R di+16:4=13121110
| same
! left out | - | -
vmovdqu xmm2, [r15 + 0x440]; vpmovsxdq ymm1, [r15 + 0x400] => vgatherdpd ymm0, [rdi + xmm2], ymm1
| R di:8=706050403020100 R di+16:8=1716151413121110
| same
! left out | - | -
vpcmpeqd xmm1, xmm1, xmm1 => vmaskmovdqu xmm0, xmm1 | - | W di:16=?
! the mask is left out, and a read is made up | R di:16=? | + W di:16=?
"""

test_avx = table_test(AVX, needs="avx2 f16c fma")
test_masked = table_test(MASKED, needs="avx2")
