"""The opcodes behind 0f, 0f 38 and 0f 3a, in the language of `pydbi.x86.analysis_forms`."""

from __future__ import annotations

from typing import Final

TWO_BYTE: Final = """
00 /0-1                 : =E.v:2
00 /2-3                 : E.w
00 /4-5                 : E.w flags=w
01 mem /0-4,7           : M
01 =c0-c4,cf,d4-d5,d7,d9,dc-dd,f8 :
01 =c5                  : +*RAX +*RBX +*RCX +*RDX flags=w
01 =c8,fa               : *RAX *ECX *EDX
01 =c9                  : *ECX *EAX
01 f3 f2 =ca            : =*RSP flags=w
01 np 66 =ca            : flags=w
01 =cb,d6               : flags=w
01 =d0                  : *ECX =*EDX =*EAX
01 =d1                  : *EDX *EAX *ECX
01 =d8,da-db,fc         : *RAX
01 =de                  : *EAX
01 =df                  : *RAX *ECX
01 reg /4               : =E.v
01 np f2 =e8            :
01 f3 =e8,ea            : *SSP =*SSP
01 f3 =ec,ee-ef         :
01 f2 np 66 =ee,fd      : *ECX =*EAX =*EDX
01 f2 np 66 =ef         : *EAX *ECX *EDX
01 =f9                  : =*RAX =*RCX =*RDX
01 =fb                  : *ECX *EAX *EBX
01 f3 =fd               : +*RAX +*RDX =*RCX flags=w
01 f3 =fe               : *RAX *RCX *RDX =*EAX flags=w
01 f2 =fe               : *RAX *RCX =*EAX flags=w
01 np 66 =fe            : *RAX *EDX
01 f3 =ff               : *RAX =*EAX flags=w
01 f2 =ff               : *RAX *RCX *RDX =*EAX flags=w
01 np 66 =ff            :
01 f3 mem /5            : M *SSP =*SSP
01 f3 =ed               : flags=w
01 f2 =e9               :
01 /6                   : E.w
02-03                   : =R.v E.w flags=w
05-09 0b 0e 34-35 a0-a1 a8-aa :
0d mem /0-2             : M
0f                      : +R.m E.m
10 f3 mem               : =R.x M load=4
10 12 f2 mem            : =R.x M load=8
10 f3 f2 reg            : +R.x E.x
10 28 np 66             : =R.x E.x
11 2b f3 mem            : M R.x store=4
11 2b f2 mem            : M R.x store=8
11 f3 f2 reg            : +E.x R.x
11 29 np 66             : =E.x R.x
12 f3 mem               : =R.x M load=16
12 16 np 66 mem         : +R.x M load=8
12 16 np reg            : +R.x E.x
12 f3 f2 reg            : =R.x E.x
13 17 np 66 mem         : M R.x store=8
14-15 54-57 np 66       : +R.x E.x
16 f3                   : =R.x E.x
18 mem /0-3,6-7         : M
1c mem /0               : M
1e f3 reg /1            : +E.y *SSP
1e f3 =fa-fb            :
1f                      : E.v:0
20 reg                  : =E.q R.cr
21 reg                  : =E.q R.dr
22 reg                  : =R.cr E.q
23 reg                  : =R.dr E.q
2a f2 mem o16 o32       : +R.x M load=4
2a f2 mem o64           : +R.x M *MXCSR load=8
2a f2 reg o16 o32       : +R.x E.d
2a f2 reg o64           : +R.x E.q *MXCSR
2a np                   : +R.x E.m *MXCSR
2a 66                   : =R.x E.m
2a f3                   : +R.x E.y *MXCSR
2b np 66 mem            : M R.x store=16
2c-2d np mem            : =R.m M *MXCSR load=8
2c-2d 66 mem            : =R.m M *MXCSR load=16
2c-2d f3 mem            : =R.y M *MXCSR load=4
2c-2d f2 mem            : =R.y M *MXCSR load=8
2c-2d f3 f2 reg         : =R.y E.x *MXCSR
2c-2d np 66 reg         : =R.m E.x *MXCSR
2e-2f np mem            : R.x M *MXCSR load=4 flags=w
2e-2f 66 mem            : R.x M *MXCSR load=8 flags=w
2e-2f np 66 reg         : R.x E.x *MXCSR flags=w
30                      : *EAX *ECX *EDX
31                      : =*RAX =*RDX
32                      : *ECX =*EAX =*EDX
33                      : *ECX =*RAX =*RDX
37                      : +*RAX +*RBX +*RCX *RDX
40-4f                   : +R.v E.v flags=r cc
50 np 66 reg            : =R.d E.x
51 58-5a 5c-5f f3 mem   : +R.x M *MXCSR load=4
51 58-5a 5c-5f f2 mem   : +R.x M *MXCSR load=8
51 5a f3 f2 reg         : +R.x E.x *MXCSR
51 np 66                : =R.x E.x *MXCSR
52-53 np                : =R.x E.x
52-53 f3                : +R.x E.x:4
58-59 5c-5f np 66 mem   : +R.x M *MXCSR load=16
58-59 5c-5f reg         : +R.x E.x *MXCSR
5a np mem               : =R.x M *MXCSR load=8
5a 66 mem               : =R.x M *MXCSR load=16
5a np 66 reg            : =R.x E.x *MXCSR
5b f3 np 66             : =R.x E.x *MXCSR
60-62 np                : +R.m E.m:4
60-6d 74-76 d1-d5 d8-e5 e8-ef f1-f6 f8-fe 66 : +R.x E.x
63-6b 74-76 d1-d5 d8-e5 e8-ef f1-f6 f8-fe np : +R.m E.m
6e np                   : =R.m E.y
6e 66                   : =R.x E.y
6f np                   : =R.m E.m
6f 66 f3                : =R.x E.x
70 np                   : =R.m E.m i1
70 66 f3 f2             : =R.x E.x i1
71-72 np reg /2,4,6     : +E.m i1
71-72 66 reg /2,4,6     : +E.x i1
73 np reg /2,6          : +E.m i1
73 66 reg /2-3,6-7      : +E.x i1
77 np                   : =*MM0-7 =*ST0-7
78 66 reg /0            : +E.x i1 i1
78 f2 reg               : +R.x E.x i1 i1
78 np                   : =E.q:0 R.q
79 66 f2 reg            : +R.x E.x
79 np                   : =R.q E.q:0
7c-7d d0 66 f2          : +R.x E.x *MXCSR
7e np                   : =E.y R.m
7e 66                   : =E.y R.x
7e f3                   : =R.x E.x:8
7f np                   : =E.m R.m
7f 66 f3                : =E.x R.x
80-8f np f3 f2          : %i4s flags=r cc jump flow
80-8f 66                : %i2s flags=r cc jump flow
90-9f                   : =E.b flags=r cc
a2                      : +*EAX +*ECX =*EBX =*EDX
a3                      : E.v R.v flags=w
a4 ac                   : +E.v R.v i1 flags=w
a5 ad                   : +E.v R.v *CL flags=w
ab b3 bb                : +E.v R.v flags=w
ae np mem /0            : M *FPSW *FPCW store=512
ae np mem /1            : M =*FPSW =*FPCW load=512
ae np mem /2            : M =*MXCSR load=4
ae np mem /3            : M *MXCSR store=4
ae np mem /4,6          : M *EDX *EAX load=576 store=576
ae f3 mem /4            : M load=y
ae np mem /5            : M *EDX *EAX load=576
ae 66 mem /6 o16        : M
ae 66 mem /6 o64        : M *EDX *EAX load=576 store=576
ae f3 mem /6 o32        : M =*SSP
ae f3 mem /6 o64        : M *EDX *EAX load=576 store=576
ae np 66 mem /7         : M
ae np reg /5-7          :
ae f3 reg /5            : E.y *SSP =*SSP
ae 66 f2 reg /6         : E.d *EAX *EDX flags=w
ae c7 f3 reg /6         : E.q
ae f3 reg /0-1          : =E.y
ae f3 reg /2-4          : E.y
af                      : +R.v E.v flags=w
b0 mem                  : M R.b +*AL load=1 store=1 flags=w
b0 reg                  : =E.b R.b +*AL flags=w
b1 f3 f2 mem            : M R.v +*yAX load=y store=y flags=w
b1 np 66 mem            : M R.v +*rAX load=v store=v flags=w
b1 f3 f2 reg            : =E.v R.v +*yAX flags=w
b1 np 66 reg            : =E.v R.v +*rAX flags=w
b2 b4-b5 mem            : =R.v M load=F
b6 be                   : =R.v E.b
b7 bf                   : =R.v E.w
b8 f3                   : =R.v E.v flags=w
b9                      : R.v E.v:0
ba /4                   : E.v i1 flags=w
ba /5-7                 : +E.v i1 flags=w
bc-bd f3 np 66 mem      : =R.v M load=v flags=w
bc-bd f2 mem            : =R.v M load=y flags=w
bc-bd reg               : =R.v E.v flags=w
c0 mem                  : +R.b M load=1 store=1 flags=w
c0 reg                  : +E.b +R.b flags=w
c1 mem                  : +R.v M load=v store=v flags=w
c1 reg                  : +E.v +R.v flags=w
c2 f3 mem               : +R.x M i1 *MXCSR load=4
c2 f2 mem               : +R.x M i1 *MXCSR load=8
c2 np 66 mem            : +R.x M i1 *MXCSR load=16
c2 reg                  : +R.x E.x i1 *MXCSR
c3 np mem               : M R.y store=y
c4 np                   : +R.m E.d:2 i1
c4 66                   : +R.x E.d:2 i1
c5 np reg               : =R.d E.m i1
c5 66 reg               : =R.d E.x i1
c6 np 66                : +R.x E.x i1
c7 mem /1               : M +*yAX *yBX *yCX +*yDX load=D store=D flags=w
c7 np mem /3            : M *EDX *EAX load=576
c7 np mem /4-5          : M *EDX *EAX load=576 store=576
c7 f3 np 66 mem /6      : M
c7 np mem /7            : M
c7 np 66 reg /6-7       : =E.v flags=w
c7 f3 reg /7            : =E.q
c8-cf                   : +O.v
d6 f3 reg               : =R.x E.m
d6 f2 reg               : =R.m E.x
d6 66                   : =E.x:8 R.x
d7 np reg               : =R.d E.m
d7 66 reg               : =R.d E.x
e6 66 f2                : =R.x E.x *MXCSR
e6 f3                   : =R.x E.x:8
e7 np mem               : M R.m store=8
e7 66 mem               : M R.x store=16
f0 f2 mem               : =R.x M load=16
f7 np reg               : R.m E.m *RDI load=8 store=8
f7 66 reg               : R.x E.x *RDI load=16 store=16
"""

THREE_BYTE_38: Final = """
00-0b np                : +R.m E.m
00-0b 28-29 2b 37-40 cf dc-df 66 : +R.x E.x
10 14-15 66             : +R.x E.x *XMM0
17 66                   : R.x E.x flags=w
1c-1e np                : =R.m E.m
1c-1e 41 db 66          : =R.x E.x
20 23 25 30 33 35 66    : =R.x E.x:8
21 24 31 34 66          : =R.x E.x:4
22 32 66                : =R.x E.x:2
2a 66 mem               : =R.x M load=16
80-82 66 mem            : R.q M load=16
c8-ca cc-cd np          : +R.x E.x
cb np                   : +R.x E.x *XMM0
d8 f3 mem /0-1          : M +*XMM0-7 load=48 flags=w
d8 f3 mem /2-3          : M +*XMM0-7 load=64 flags=w
dc-dd f3 mem            : +R.x M load=48 flags=w
dc f3 reg               : R.x E.x *XMM0 *EAX flags=w
de-df f3 mem            : +R.x M load=64 flags=w
f0 np 66 mem            : =R.v M load=v
f0 f2                   : +R.y E.b
f1 np 66 mem            : M R.v store=v
f1 f2                   : +R.y E.v
f5 66 mem               : M R.y
f6 np mem               : M R.y
f6 66 f3                : +R.y E.y flags=rw
f8 66 mem               : R.a M load=64 store=64
f8 f3 f2 mem            : R.a M load=64 store=64 flags=w
f9 np mem               : M R.y store=y
fa f3 reg               : =R.d E.d +*XMM0 =*XMM1 =*XMM2 =*XMM4 =*XMM5 =*XMM6 flags=w
fb f3 reg               : =R.d E.d +*XMM0 +*XMM1 =*XMM2 =*XMM3 =*XMM4 =*XMM5 =*XMM6 flags=w
fc mem                  : M R.y load=y store=y
"""

THREE_BYTE_3A: Final = """
08-09 66                : =R.x E.x i1 *MXCSR
0a 66                   : +R.x E.x:4 i1 *MXCSR
0b 66                   : +R.x E.x:8 i1 *MXCSR
0c-0f 42 44 ce-cf 66    : +R.x E.x i1
0f np                   : +R.m E.m i1
14 66                   : =E.d:1 R.x i1
15 66                   : =E.d:2 R.x i1
16 66                   : =E.y R.x i1
17 66                   : =E.d R.x i1
20 66                   : +R.x E.d:1 i1
21 66                   : +R.x E.x:4 i1
22 66                   : +R.x E.y i1
40-41 66                : +R.x E.x i1 *MXCSR
60 66                   : R.x E.x i1 *EAX *EDX =*XMM0 flags=w
61 66                   : R.x E.x i1 *EAX *EDX =*ECX flags=w
62 66                   : R.x E.x i1 =*XMM0 flags=w
63 66                   : R.x E.x i1 =*ECX flags=w
cc np                   : +R.x E.x i1
df 66                   : =R.x E.x i1
f0 f3 reg /0            : i1 *EAX
"""
