"""The VEX opcode maps, in the language of `pydbi.x86.analysis_forms`."""

from __future__ import annotations

from typing import Final

_VEX_1: Final = """
10 28 np 66             : =R.L E.L
10 f3 mem               : =R.x M load=4
10 f3 f2 reg            : =R.x V.x E.x
10 f2 mem               : =R.x M load=8
11 29 np 66             : =E.L R.L
11 f3 mem               : M R.x store=4
11 f3 f2 reg            : =E.x V.x R.x
11 f2 mem               : M R.x store=8
12 16 np                : =R.x V.x E.x:8
12 16 66 mem            : =R.x V.x M load=8
12 16 f3                : =R.L E.L
12 f2                   : =R.L E.L:P
13 17 np 66 mem         : M R.x store=8
14-15 54-57 np 66       : =R.L V.L E.L
2a f3                   : =R.x V.x E.y *MXCSR
2a f2 w0                : =R.x V.x E.d
2a f2 w1                : =R.x V.x E.q *MXCSR
2b np 66 mem            : M R.L store=L
2c-2d f3                : =R.y E.x:4 *MXCSR
2c-2d f2                : =R.y E.x:8 *MXCSR
2e-2f np                : R.x E.x:4 *MXCSR flags=w
2e-2f 66                : R.x E.x:8 *MXCSR flags=w
41-42 45-47 4a-4b np 66 reg : =R.k V.k E.k
44 90 np 66 reg         : =R.k E.k
50 np 66 reg            : =R.d E.L
51 np 66                : =R.L E.L *MXCSR
51 58-5a 5c-5f f3       : =R.x V.x E.x:4 *MXCSR
51 58-5a 5c-5f f2       : =R.x V.x E.x:8 *MXCSR
52-53 np                : =R.L E.L
52-53 f3                : =R.x V.x E.x:4
58-59 5c-5f np 66       : =R.L V.L E.L *MXCSR
5a np                   : =R.L E.x:H *MXCSR
5a 66                   : =R.x E.L *MXCSR
5b np 66 f3             : =R.L E.L *MXCSR
60-6d 74-76 d4-d5 d8-e0 e3-e5 e8-ef f4-f6 f8-fe 66 : =R.L V.L E.L
6e 66                   : =R.x E.y
6f 66 f3                : =R.L E.L
70 66 f3 f2             : =R.L E.L i1
71-72 66 reg /2,4,6     : =V.L E.L i1
73 66 reg /2-3,6-7      : =V.L E.L i1
77 np                   : =*YMM0-15
7c-7d d0 66 f2          : =R.L V.L E.L *MXCSR
7e 66                   : =E.y R.x
7e f3                   : =R.x E.x:8
7f 66 f3                : =E.L R.L
90 np mem w0            : =R.k M load=2
90 np mem w1            : =R.k M load=8
90 66 mem w0            : =R.k M load=1
90 66 mem w1            : =R.k M load=4
91 np mem w0            : M R.k store=2
91 np mem w1            : M R.k store=8
91 66 mem w0            : M R.k store=1
91 66 mem w1            : M R.k store=4
92 np 66 reg            : =R.k E.d
92 f2 reg               : =R.k E.y
93 np 66 reg            : =R.d E.k
93 f2 reg               : =R.y E.k
98-99 np 66 reg         : R.k E.k flags=w
ae np mem /2            : M =*MXCSR load=4
ae np mem /3            : M *MXCSR store=4
c2 np 66                : =R.L V.L E.L i1 *MXCSR
c2 f3                   : =R.x V.x E.x:4 i1 *MXCSR
c2 f2                   : =R.x V.x E.x:8 i1 *MXCSR
c4 66                   : =R.x V.x E.d:2 i1
c5 66 reg               : =R.d E.x i1
c6 np 66                : =R.L V.L E.L i1
d1-d3 e1-e2 f1-f3 66    : =R.L V.L E.x
d6 66                   : =E.x:8 R.x
d7 66 reg               : =R.d E.L
e6 66 f2                : =R.x E.L *MXCSR
e6 f3                   : =R.L E.x:H
e7 66 mem               : M R.L store=L
f0 f2 mem               : =R.L M load=L
f7 66 reg               : R.x E.x *RDI load=16 store=16
"""

_VEX_2: Final = """
00-0d 28-29 2b 37-40 45-47 cf dc-df 66 : =R.L V.L E.L
0e-0f 17 66             : R.L E.L flags=w
13 66                   : =R.L E.x:H *MXCSR
16 36 66                : =R.Y V.Y E.Y
18 58 66                : =R.L E.x:4
19 66                   : =R.Y E.x:8
1a 5a 66 mem            : =R.Y M load=16
1c-1e 66                : =R.L E.L
20 23 25 30 33 35 66    : =R.L E.x:H
21 24 31 34 66          : =R.L E.x:Q
22 32 66                : =R.L E.x:E
2a 66 mem               : =R.L M load=L
2c-2d 8c 66 mem         : =R.L V.L M load=L
2e-2f 8e 66 mem         : M V.L R.L load=L store=L
41 db 66                : =R.x E.x
49 np mem /0            : M load=64
49 66 mem /0            : M store=64
4b 66 f2 mem            : =R.t M load=0
4b f3 mem               : M R.t store=0
50-51                   : +R.L V.L E.L
52-53 b4-b5 66          : +R.L V.L E.L
59 66                   : =R.L E.x:8
5c f3 f2 reg            : +R.t E.t V.t
5e reg                  : +R.t E.t V.t
72 f3                   : =R.x E.L
78 66                   : =R.L E.x:1
79 66                   : =R.L E.x:2
90 92 66 mem w0         : +R.L M.L +V.L load=L
90 92 66 mem w1         : +R.L M.x +V.L load=L
91 93 66 mem w0         : +R.x M.L +V.x load=H
91 93 66 mem w1         : +R.L M.L +V.L load=L
96-98 9a 9c 9e a6-a8 aa ac ae b6-b8 ba bc be 66 : +R.L V.L E.L *MXCSR
99 9b 9d 9f a9 ab ad af b9 bb bd bf 66 : +R.x V.x E.x:y *MXCSR
b0 mem                  : =R.L M load=L
b1 66 f3 mem            : =R.L M load=2
cb f2 reg               : +R.Y V.Y E.x
cc f2 reg               : +R.Y E.x
cd f2 reg               : +R.Y E.Y
d2-d3 np 66 f3          : +R.L V.L E.L
da np 66                : +R.x V.x E.x
da f3 f2                : =R.L V.L E.L
e0-ef 66 mem            : +R.y M V.y load=y store=y flags=w cc
f2 np                   : =R.y V.y E.y flags=w
f3 np /1-3              : =V.y E.y flags=w
f5 f7 np                : =R.y E.y V.y flags=w
f5 f3 f2                : =R.y V.y E.y
f6 f2 w0                : =R.d =V.d E.d *EDX
f6 f2 w1                : =R.q =V.q E.q *RDX
f7 66 f3 f2             : =R.y E.y V.y
"""

_VEX_3: Final = """
00-01 66                : =R.Y E.Y i1
02 0c-0f 42 44 ce-cf 66 : =R.L V.L E.L i1
04-05 66                : =R.L E.L i1
06 46 66                : =R.Y V.Y E.Y i1
08-09 66                : =R.L E.L i1 *MXCSR
0a 66                   : =R.x V.x E.x:4 i1 *MXCSR
0b 66                   : =R.x V.x E.x:8 i1 *MXCSR
14 66                   : =E.d:1 R.x i1
15 66                   : =E.d:2 R.x i1
16 66                   : =E.y R.x i1
17 66                   : =E.d R.x i1
18 38 66                : =R.Y V.Y E.x i1
19 39 66                : =E.x R.Y i1
1d 66                   : =E.x:H R.L i1 *MXCSR
20 66                   : =R.x V.x E.d:1 i1
21 66                   : =R.x V.x E.x:4 i1
22 66                   : =R.x V.x E.y i1
30-33 66 reg            : =R.k E.k i1
40 66                   : =R.L V.L E.L i1 *MXCSR
41 66                   : =R.x V.x E.x i1 *MXCSR
48-49 66 w0             : =R.L V.L E.L I.L i1
48-49 66 w1             : =R.L V.L I.L E.L i1
4a-4c 66                : =R.L V.L E.L I.L
5c-5f 68-69 6c-6d 78-79 7c-7d 66 w0 : =R.L V.L E.L I.L *MXCSR
5c-5f 68-69 6c-6d 78-79 7c-7d 66 w1 : =R.L V.L I.L E.L *MXCSR
60 66                   : R.x E.x i1 *EAX *EDX =*XMM0 flags=w
61 66                   : R.x E.x i1 *EAX *EDX =*ECX flags=w
62 66                   : R.x E.x i1 =*XMM0 flags=w
63 66                   : R.x E.x i1 =*ECX flags=w
6a 6e 7a 7e 66 w0       : =R.x V.x E.x:4 I.x *MXCSR
6a 6e 7a 7e 66 w1       : =R.x V.x I.x E.x:4 *MXCSR
6b 6f 7b 7f 66 w0       : =R.x V.x E.x:8 I.x *MXCSR
6b 6f 7b 7f 66 w1       : =R.x V.x I.x E.x:8 *MXCSR
de 66                   : +R.x V.x E.x i1
df 66                   : =R.x E.x i1
f0 f2                   : =R.y E.y i1
"""

#: By the map field of VEX.
VEX_MAPS: Final = {1: _VEX_1, 2: _VEX_2, 3: _VEX_3}

_XOP_8: Final = """
85-87 8e-8f 95-97 9e-9f a6 b6 : =R.x V.x E.x I.x
a2-a3 w0                : =R.L V.L E.L I.L
a2-a3 w1                : =R.L V.L I.L E.L
c0-c3                   : =R.x E.x i1
cc-cf ec-ef             : =R.x V.x E.x i1
"""

_XOP_9: Final = """
01 /1-7                 : =V.y E.y flags=w
02 /1,6                 : =V.y E.y flags=w
12 reg /0               : E.y
12 reg /1               : =E.y
80-81                   : =R.L E.L
82                      : =R.x E.x:4
83                      : =R.x E.x:8
90-9b w0                : =R.x E.x V.x
90-9b w1                : =R.x V.x E.x
c1-c3 c6-c7 cb d1-d3 d6-d7 db e1-e3 : =R.x E.x
"""

_XOP_10: Final = """
10 w0                   : =R.d E.d i4 flags=w
10 w1                   : =R.q E.q i4s flags=w
12 /0                   : V.y E.d i4 flags=w
12 /1                   : V.y E.d i4
"""

#: By the map field of XOP.
XOP_MAPS: Final = {8: _XOP_8, 9: _XOP_9, 10: _XOP_10}
