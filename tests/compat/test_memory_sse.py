"""Memory accesses of MMX and SSE instructions."""

from __future__ import annotations

from tests.compat.test_memory_table import table_test

SSE = """
movss xmm0, [rdi] | R di:4=3020100 | same
movsd xmm0, [rdi] | R di:8=706050403020100 | same
movss [rdi], xmm0 | - | W di:4=13121110
movsd [rdi], xmm0 | - | W di:8=1716151413121110
movaps xmm0, [rdi] | R di:16=? | same
movups xmm0, [rdi + 1] | R di+1:16=? | same
movaps [rdi], xmm0 | - | W di:16=?
movups [rdi + 1], xmm0 | - | W di+1:16=?
movdqa xmm1, [rdi] | R di:16=? | same
movdqu xmm1, [rdi + 8] | R di+8:16=? | same
movdqu [rdi + 8], xmm1 | - | W di+8:16=?
movapd [rdi], xmm1 | - | W di:16=?
movntps [rdi], xmm1 | - | W di:16=?
movntdq [rdi], xmm1 | - | W di:16=?
movntdqa xmm1, [rdi] | R di:16=? | same
lddqu xmm1, [rdi] | R di:16=? | same
movd xmm0, dword ptr [rdi] | R di:4=3020100 | same
movd dword ptr [rdi], xmm0 | - | W di:4=13121110
movq xmm0, qword ptr [rdi] | R di:8=706050403020100 | same
movq qword ptr [rdi], xmm0 | - | W di:8=1716151413121110
movlps xmm0, [rdi] | R di:8=706050403020100 | same
movhps xmm0, [rdi] | R di:8=706050403020100 | same
movlpd [rdi], xmm0 | - | W di:8=1716151413121110
movhpd [rdi], xmm0 | - | W di:8=1f1e1d1c1b1a1918
movddup xmm0, [rdi] | R di:8=706050403020100 | same
movsldup xmm0, [rdi] | R di:16=? | same
addss xmm0, [rdi] | R di:4=3020100 | same
addsd xmm0, [rdi] | R di:8=706050403020100 | same
addps xmm0, [rdi] | R di:16=? | same
mulpd xmm0, [rdi] | R di:16=? | same
comiss xmm0, [rdi] | R di:4=3020100 | same
ucomisd xmm0, [rdi] | R di:8=706050403020100 | same
cvtsi2sd xmm0, dword ptr [rdi] | R di:4=3020100 | same
cvtsi2sd xmm0, qword ptr [rdi] | R di:8=706050403020100 | same
cvttsd2si rax, [rdi] | R di:8=706050403020100 | same
cvtss2sd xmm0, [rdi] | R di:4=3020100 | same
cvtps2pd xmm0, [rdi] | R di:8=706050403020100 | same
cvtdq2pd xmm0, [rdi] | R di:8=706050403020100 | same
sqrtsd xmm0, [rdi] | R di:8=706050403020100 | same
paddd xmm0, [rdi] | R di:16=? | same
pshufb xmm0, [rdi] | R di:16=? | same
pshufd xmm0, [rdi], 3 | R di:16=? | same
pmovzxbw xmm0, [rdi] | R di:8=706050403020100 | same
pmovzxbd xmm0, [rdi] | R di:4=3020100 | same
pmovsxbq xmm0, [rdi] | R di:2=100 | same
pmovzxdq xmm0, [rdi] | R di:8=706050403020100 | same
pinsrb xmm0, [rdi], 1 | R di:1=0 | same
pinsrw xmm0, [rdi], 1 | R di:2=100 | same
pinsrd xmm0, [rdi], 1 | R di:4=3020100 | same
pinsrq xmm0, [rdi], 1 | R di:8=706050403020100 | same
pextrb [rdi], xmm0, 1 | - | W di:1=11
pextrw [rdi], xmm0, 1 | - | W di:2=1312
pextrd [rdi], xmm0, 1 | - | W di:4=17161514
pextrq [rdi], xmm0, 1 | - | W di:8=1f1e1d1c1b1a1918
extractps [rdi], xmm0, 1 | - | W di:4=17161514
insertps xmm0, [rdi], 0x10 | R di:4=3020100 | same
pcmpistri xmm0, [rdi], 0 | R di:16=? | same
ptest xmm0, [rdi] | R di:16=? | same
aesenc xmm0, [rdi] | R di:16=? | same
pclmulqdq xmm0, [rdi], 0 | R di:16=? | same
cmpsd xmm0, [rdi], 0 | R di:8=706050403020100 | same
shufps xmm0, [rdi], 0 | R di:16=? | same
pcmpeqd xmm0, xmm0 => maskmovdqu xmm1, xmm0 | - | W di:16=?
! the mask is left out, and a read is made up | R di:16=? | + W di:16=?
movdqu xmm1, [r15 + 0x30]; movdqu xmm0, [r15 + 0x78] => maskmovdqu xmm1, xmm0 | - | W di+8:8=?
! the mask is left out, and a read is made up | R di:16=? | + W di:16=?
movq mm1, [r15 + 0x7c]; movq mm0, [r15 + 0x30] => maskmovq mm0, mm1 | - | W di+4:4=?
! the mask is left out, and a read is made up | R di:8=706050403020100 | + W di:8=3736353403020100
movq mm0, [rdi] | R di:8=706050403020100 | same
movq [rdi], mm0 | - | W di:8=0
movd mm0, dword ptr [rdi] | R di:4=3020100 | same
paddb mm0, [rdi] | R di:8=706050403020100 | same
movntq [rdi], mm0 | - | W di:8=0
mov dword ptr [rdi], 0x1f80; ldmxcsr [rdi] => stmxcsr [rdi] | - | W di:4=1f80
mov dword ptr [rdi], 0x1f80 => ldmxcsr [rdi] | R di:4=1f80 | same
movss xmm0, [rip + data] | R data+0x0:4=3020100 | same
movaps xmm0, [rip + data + 0x10] | R data+0x10:16=? | same
"""

test_sse = table_test(SSE, needs="sse4_2 aes pclmulqdq")
