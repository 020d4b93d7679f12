"""Names of AMD's XOP-encoded instructions and of 3DNow!, in the language of `..templates`.

The suffix byte of a 3DNow! instruction, which stands where an immediate would, is its opcode.
"""

from __future__ import annotations

from typing import Final

__all__ = ["AMD_3DNOW", "XOP_8", "XOP_9", "XOP_10"]

XOP_8: Final = """
85-87 8e-8f 95 : VPMACSSWW VPMACSSWD VPMACSSDQL VPMACSSDD VPMACSSDQH VPMACSWW : <rm|rr>
96-97 9e-9f a6 b6 : VPMACSWD VPMACSDQL VPMACSDD VPMACSDQH VPMADCSSWD VPMADCSWD : <rm|rr>
c0-c3 cc-cf ec : VPROTB VPROTW VPROTD VPROTQ VPCOMB VPCOMW VPCOMD VPCOMQ VPCOMUB : <mi|ri>
ed-ef : VPCOMUW VPCOMUD VPCOMUQ : <mi|ri>
a2 mem : VPCMOV$r[mr|rm]
a2 reg : VPCMOV$rrr[|_REV]
a3 mem : VPPERMr[mr|rm]
a3 reg : VPPERMrrr[|_REV]
"""

XOP_9: Final = """
82-83 c1-c3 c6-c7 : VFRCZSS VFRCZSD VPHADDBW VPHADDBD VPHADDBQ VPHADDWD VPHADDWQ : <rm|rr>
cb d1-d3 d6-d7 : VPHADDDQ VPHADDUBW VPHADDUBD VPHADDUBQ VPHADDUWD VPHADDUWQ : <rm|rr>
db e1-e3 : VPHADDUDQ VPHSUBBW VPHSUBWD VPHSUBDQ : <rm|rr>
80-81 : VFRCZPS VFRCZPD : $<rm|rr>
01 : {|BLCFILL|BLSFILL|BLCS|TZMSK|BLCIC|BLSIC|T1MSKC}[32|64] : <rm|rr>
02 : {|BLCMSK|||||BLCI}[32|64] : <rm|rr>
12 : {LLWPCB|SLWPCB}[|64]
90-9a mem : VPROTB VPROTW VPROTD VPROTQ VPSHLB VPSHLW VPSHLD VPSHLQ VPSHAB VPSHAW VPSHAD : [mr|rm]
9b mem : VPSHAQ : [mr|rm]
90-99 reg : VPROTB VPROTW VPROTD VPROTQ VPSHLB VPSHLW VPSHLD VPSHLQ VPSHAB VPSHAW : rr[|_REV]
9a-9b reg : VPSHAD VPSHAQ : rr[|_REV]
"""

XOP_10: Final = """
10 : BEXTRI[32|64] : <mi|ri>
12 : {LWPINS|LWPVAL}[32|64] : <rmi|rri>
"""

AMD_3DNOW: Final = """
0c-0d 1c-1d 8a 8e 90 94 96 : PI2FW PI2FD PF2IW PF2ID PFNACC PFPNACC PFCMPGE PFMIN PFRCP : <rm|rr>
97 9a 9e a0 a4 a6-a7 aa : PFRSQRT PFSUB PFADD PFCMPGT PFMAX PFRCPIT1 PFRSQIT1 PFSUBR : <rm|rr>
ae b0 b4 b6-b7 bb bf : PFACC PFCMPEQ PFMUL PFRCPIT2 PMULHRW PSWAPD PAVGUSB : <rm|rr>
"""
