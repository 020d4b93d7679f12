"""The one-byte opcodes, in the language of `pydbi.x86.analysis_forms`."""

from __future__ import annotations

from typing import Final

ONE_BYTE: Final = """
00 08 20 30             : +E.b R.b flags=w
01 09 21 31             : +E.v R.v flags=w
02 0a 22 32             : +R.b E.b flags=w
03 0b 23 33             : +R.v E.v flags=w
04 0c 24 34             : i1s +*AL flags=w
05 0d 25 35             : iz +*rAX flags=w
10 18                   : +E.b R.b flags=rw
11 19                   : +E.v R.v flags=rw
12 1a                   : +R.b E.b flags=rw
13 1b                   : +R.v E.v flags=rw
14 1c                   : i1s +*AL flags=rw
15 1d                   : iz +*rAX flags=rw
28                      : +E.b R.b flags=w compare
29                      : +E.v R.v flags=w compare
2a                      : +R.b E.b flags=w compare
2b                      : +R.v E.v flags=w compare
2c                      : i1s +*AL flags=w compare
2d                      : iz +*rAX flags=w compare
38 84                   : E.b R.b flags=w compare
39 85                   : E.v R.v flags=w compare
3a                      : R.b E.b flags=w compare
3b                      : R.v E.v flags=w compare
3c a8                   : i1s *AL flags=w compare
3d a9                   : iz *rAX flags=w compare
50-57                   : O.s +*sSP store=s
58-5f                   : =O.s +*sSP load=s
63                      : =R.v E.d
68                      : is +*sSP store=s
69                      : =R.v E.v iz flags=w
6a                      : i1s +*sSP store=s
6b                      : =R.v E.v i1s flags=w
6c-6d                   : @RDI *DX +*EDI flags=r
6e-6f                   : @RSI @0 *DX +*ESI flags=r
70-7f                   : %i1s flags=r cc jump flow
80 /0-1,4,6             : +E.b i1s flags=w
80 /2-3                 : +E.b i1s flags=rw
80 /5                   : +E.b i1s flags=w compare
80 /7                   : E.b i1s flags=w compare
81 /0-1,4,6             : +E.v iz flags=w
81 /2-3                 : +E.v iz flags=rw
81 /5                   : +E.v iz flags=w compare
81 /7                   : E.v iz flags=w compare
83 /0-1,4,6             : +E.v i1s flags=w
83 /2-3                 : +E.v i1s flags=rw
83 /5                   : +E.v i1s flags=w compare
83 /7                   : E.v i1s flags=w compare
86                      : +R.b +E.b
87                      : +R.v +E.v
88                      : =E.b R.b
89                      : =E.v R.v
8a                      : =R.b E.b
8b                      : =R.v E.v
8c /0-5                 : =E.v:2 R.sg
8d mem o16              : =R.w M
8d mem o32              : =R.d A
8d mem o64              : =R.q A
8e /0,2-5               : =R.sg E.v:2
8f mem /0               : M +*sSP load=s store=s
8f reg /0               : =E.s +*sSP load=s
90-97                   : +O.v +*rAX
90 r0                   :
98                      : *nAX =*rAX
99                      : +*rAX =*rDX
9b                      : =*FPSW
9c                      : +*sSP store=s flags=r
9d                      : +*sSP load=s flags=w
9e                      : *AH flags=w
9f                      : =*AH flags=r
a0                      : @i8s @0 =*AL load=1
a1                      : @i8s @0 =*rAX load=v
a2                      : @i8s @0 *AL store=1
a3                      : @i8s @0 *rAX store=v
a4                      : @RDI @RSI @0 +*EDI +*ESI load=1 store=1 flags=r
a5                      : @RDI @RSI @0 +*EDI +*ESI load=v store=v flags=r
a6                      : @RDI @RSI @0 +*EDI +*ESI load=1 flags=rw
a7                      : @RDI @RSI @0 +*EDI +*ESI load=v flags=rw
aa                      : @RDI *AL +*EDI store=1 flags=r
ab                      : @RDI *rAX +*yDI store=v flags=r
ac                      : @RSI @0 +*ESI =*AL load=1 flags=r
ad                      : @RSI @0 +*ESI =*rAX load=v flags=r
ae                      : @RDI *AL +*EDI load=1 flags=rw
af                      : @RDI *rAX +*EDI load=v flags=rw
b0-b7                   : =O.b i1s move_imm
b8-bf                   : =O.v iv move_imm
c0 /0-1,4-7             : +E.b i1 flags=w
c0 /2-3                 : +E.b i1 flags=rw
c1 /0-1,4-7             : +E.v i1 flags=w
c1 /2-3                 : +E.v i1 flags=rw
c2 o16                  : i2 +*RSP load=8 return flow
c2 o32 o64              : i2s +*RSP load=8 return flow
c3                      : +*RSP load=8 return flow
c6 =f8                  : i1s
c6 /0                   : =E.b i1s
c7 mem /0               : M iz store=v
c7 reg /0 o16           : =E.w i2
c7 reg /0 o32           : =E.d i4
c7 reg /0 o64           : =E.q i4s move_imm
c7 =f8                  : %js =*EAX jump flow
c8                      : i2s i2s store=8
c9                      : +*RBP +*RSP load=8
ca o16                  : i2 +*RSP load=8 return flow
ca o32 o64              : i2s +*RSP load=8 return flow
cb                      : +*RSP load=8 return flow
cc f4                   :
cd                      : i1
cf                      : return flow
d0 /0-1,4-7             : +E.b flags=w
d0 /2-3                 : +E.b flags=rw
d1 /0-1,4-7             : +E.v flags=w
d1 /2-3                 : +E.v flags=rw
d2 /0-1,4-7             : +E.b *CL flags=w
d2 /2-3                 : +E.b *CL flags=rw
d3 /0-1,4-7             : +E.v *CL flags=w
d3 /2-3                 : +E.v *CL flags=rw
d7                      : +*AL *EBX load=1
d8 da mem               : M *FPCW =*FPSW load=4
d8 reg /0-7             : E.st *FPCW =*FPSW
d9 db mem /0            : M *FPCW =*FPSW load=4
d9 mem /2-3             : M *FPCW =*FPSW store=4
d9 mem /4               : M =*FPSW =*FPCW load=28
d9 mem /5               : M =*FPSW =*FPCW load=2
d9 mem /6               : M +*FPSW +*FPCW store=28
d9 mem /7               : M *FPCW =*FPSW store=2
d9 reg /0-1             : E.st *FPCW =*FPSW
d9 =d0,e0-e1,e5,f6-f7   : =*FPSW
d9 reg /7               : *FPCW =*FPSW
d9 =e4,e8-ee,f0-f5      : *FPCW =*FPSW
da-db reg /0-3          : E.st =*FPSW
da =e9                  : *ST0 *FPCW =*FPSW
db mem /1-3             : M *FPCW =*FPSW store=4
db mem /5               : M *FPCW =*FPSW load=10
db mem /7               : M *FPCW =*FPSW store=10
db =e2                  : =*FPSW
db =e3                  : =*FPSW =*FPCW
db df reg /5-6          : E.st *ST0 *FPCW =*FPSW flags=w
dc mem                  : M *FPCW =*FPSW load=8
dc de reg /0-1,4-7      : E.st *FPCW =*FPSW
dd mem /0               : M *FPCW =*FPSW load=8
dd mem /1-3             : M *FPCW =*FPSW store=8
dd mem /4               : M =*FPSW =*FPCW load=108
dd mem /6               : M +*FPSW +*FPCW store=108
dd mem /7               : M +*FPSW store=2
dd df reg /0            : E.st =*FPSW
dd reg /2-3             : E.st *FPCW =*FPSW
dd reg /4-5             : E.st *ST0 *FPCW =*FPSW
de mem                  : M *FPCW =*FPSW load=2
de =d9                  : *FPCW =*FPSW
df mem /0               : M *FPCW =*FPSW load=2
df mem /1-3             : M *FPCW =*FPSW store=2
df mem /4               : M =*FPSW load=10
df mem /5               : M *FPCW =*FPSW load=8
df mem /6               : M *FPCW =*FPSW store=10
df mem /7               : M *FPCW =*FPSW store=8
df reg /4               : +*FPSW =*AX
e0                      : %i1s +*RCX condition=not_equals jump flow
e1                      : %i1s +*RCX condition=equals jump flow
e2                      : %i1s +*RCX jump flow
e3                      : %i1s *RCX jump flow
e4                      : i1 =*AL
e5                      : i1 =*zAX
e6                      : i1 *AL
e7                      : i1 *zAX
e8                      : %i4s +*RSP *SSP store=8 call flow
e9                      : %js jump flow
eb                      : %i1s jump flow
ec                      : *DX =*AL
ed                      : *DX =*zAX
ee                      : *DX *AL
ef                      : *DX *zAX
f5 f8-fb                : flags=rw
f6 /0                   : E.b i1s flags=w compare
f6 /2                   : +E.b
f6 /3                   : +E.b flags=w
f6 /4-5                 : E.b +*AL =*AX flags=w
f6 /6-7                 : E.b *AX =*AL =*AH flags=w
f7 /0                   : E.v iz flags=w compare
f7 /2                   : +E.v
f7 /3                   : +E.v flags=w
f7 /4-5                 : E.v +*rAX =*rDX flags=w
f7 /6-7                 : E.v +*rAX +*rDX flags=w
fc-fd                   : flags=w
fe /0-1                 : +E.b flags=w
ff mem /2               : M +*RSP *SSP load=8 store=8 call flow
ff mem /3               : M *ySP *SSP load=F call flow
ff mem /5               : M load=F jump flow
ff mem /6               : M +*sSP load=s store=s
ff reg /2               : E.q +*RSP *SSP store=8 call flow
ff reg /6               : E.s +*sSP store=s
ff /0-1                 : +E.v flags=w
ff /4                   : E.q jump flow
"""
