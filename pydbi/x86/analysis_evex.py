"""The EVEX opcode maps, in the language of `pydbi.x86.analysis_forms`.

The forms are those without a mask; `masked_form` makes the others.
"""

from __future__ import annotations

from typing import Final

_EVEX_1: Final = """
10 28 np 66             : =R.L E.L
10 f3 mem               : =R.x M load=4
10 f3 f2 reg            : =R.x V.x E.x
10 f2 mem               : =R.x M load=8
11 29 np 66             : ~E.L R.L
11 f3 mem               : M R.x store=4
11 f3 f2 reg            : =E.x V.x R.x
11 f2 mem               : M R.x store=8
12 16 np                : =R.x V.x E.x:8
12 16 66 mem            : =R.x V.x M load=8
12 16 f3                : =R.L E.L
12 f2                   : =R.L E.L:P
13 17 np 66 mem         : M R.x store=8
14-15 54-57 np 66       : =R.L V.L E.L
2a 7b f3                : =R.x V.x E.y *MXCSR
2a 7b f2 w0             : =R.x V.x E.d
2a 7b f2 w1             : =R.x V.x E.q *MXCSR
2b np 66 mem            : M R.L store=L
2c-2d 78-79 f3          : =R.y E.x:4 *MXCSR
2c-2d 78-79 f2          : =R.y E.x:8 *MXCSR
2e-2f np                : R.x E.x:4 *MXCSR flags=w
2e-2f 66                : R.x E.x:8 *MXCSR flags=w
51 np 66                : =R.L E.L *MXCSR
51 58-5a 5c-5f f3       : =R.x V.x E.x:4 *MXCSR
51 58-5a 5c-5f f2       : =R.x V.x E.x:8 *MXCSR
58-59 5c-5f np 66       : =R.L V.L E.L *MXCSR
5a np                   : =R.L E.H *MXCSR
5a 66                   : =R.H E.L *MXCSR
5b 78-79 np w0          : =R.L E.L *MXCSR
5b 78-79 np w1          : =R.H E.L *MXCSR
5b 66 f3                : =R.L E.L *MXCSR
60-63 67-6d d4-d5 d8-e0 e3-e5 e8-ef f4-f6 f8-fe 66 : =R.L V.L E.L
64-66 74-76 66          : =R.k V.L E.L
6e 66                   : =R.x E.y
6f 66 f3 f2             : =R.L E.L
70 66 f3 f2             : =R.L E.L i1
71 66 /2,4,6            : =V.L E.L i1
72 66 /0-2,4,6          : =V.L E.L i1
73 66 /2-3,6-7          : =V.L E.L i1
78-7b 66 w0             : =R.L E.H *MXCSR
78-79 7b 66 w1          : =R.L E.L *MXCSR
7a 66 f3 w1             : =R.L E.L *MXCSR
7a e6 f3 w0             : =R.L E.H
7a f2 w0                : =R.L E.L *MXCSR
7a f2 w1                : =R.H E.L *MXCSR
7e 66                   : =E.y R.x
7e f3                   : =R.x E.x:8
7f 66 f3 f2             : ~E.L R.L
c2 np 66                : =R.k V.L E.L i1 *MXCSR
c2 f3                   : =R.k V.x E.x:4 i1 *MXCSR
c2 f2                   : =R.k V.x E.x:8 i1 *MXCSR
c4 66                   : =R.x V.x E.d:2 i1
c5 66 reg               : =R.d E.x i1
c6 np 66                : =R.L V.L E.L i1
d1-d3 e1-e2 f1-f3 66    : =R.L V.L E.x
d6 66                   : =E.x:8 R.x
e6 66 f2                : =R.H E.L *MXCSR
e6 f3 w1                : =R.L E.L *MXCSR
e7 66 mem               : M R.L store=L
"""

_EVEX_2: Final = """
00 04 0b-0d 10-12 14-16 28 2b 36 38-40 45-47 83 8d cf dc-df 66 : =R.L V.L E.L
10 13 15 20 23 25 30 33 35 f3 : =E.H R.L
11 14 21 24 31 34 f3    : =E.x:Q R.L
12 22 32 f3             : =E.x:E R.L
13 66                   : =R.L E.H *MXCSR
18 58 66                : =R.L E.x:4
19 59 66                : =R.L E.x:8
1a 5a 66 mem            : =R.L M load=16
1b 5b 66 mem            : =R.Z M load=32
1c-1f 44 54-55 c4 66    : =R.L E.L
20 23 25 30 33 35 66    : =R.L E.H
21 24 31 34 66          : =R.L E.x:Q
22 32 66                : =R.L E.x:E
26-27 66 f3             : =R.k V.L E.L
29 37 8f 66             : =R.k V.L E.L
28 38 f3 reg            : =R.L E.k
29 39 f3 reg            : =R.k E.L
2a f3 reg w1            : =R.L E.k
3a f3 reg w0            : =R.L E.k
2a 66 mem               : =R.L M load=L
2c 66                   : =R.L V.L E.L *MXCSR
2d 43 4d 4f cb cd 66    : =R.x V.x E.x:y *MXCSR
42 4c 4e 66             : =R.L E.L *MXCSR
50-51 53 70-73 75-77 7d-7f b4-b5 66 : +R.L V.L E.L
52 66 f3                : +R.L V.L E.L
52-53 f2 mem            : +R.Z V.Z M load=16
62 66                   : =R.L E.L scale=B
63 66                   : =E.L R.L scale=B
64-66 66                : ~R.L V.L E.L
68 f2                   : =R.kk V.L E.L
72 f3                   : =R.H E.L
72 f2                   : =R.L V.L E.L
78 66                   : =R.L E.x:1
79 66                   : =R.L E.x:2
7a-7b 66 reg            : =R.L E.d
7c 66 reg               : =R.L E.y
88-89 66                : =R.L E.L scale=y
8a-8b 66                : =E.L R.L scale=y
90 92 66 mem w0         : +R.L +K.k M.L load=L scale=4
90 92 66 mem w1         : +R.L +K.k M.H load=L scale=8
91 93 66 mem w0         : +R.H +K.k M.L load=H scale=4
91 93 66 mem w1         : +R.L +K.k M.L load=L scale=8
96-98 9a 9c 9e a6-a8 aa ac ae b6-b8 ba bc be 66 : +R.L V.L E.L *MXCSR
99 9b 9d 9f a9 ab ad af b9 bb bd bf 66 : +R.x V.x E.x:y *MXCSR
9a aa f2 mem            : +R.Z V.Z M *MXCSR load=16
9b ab f2 mem            : +R.x V.x M *MXCSR load=16
a0 a2 66 mem w0         : M.L +K.k R.L store=L scale=4
a0 a2 66 mem w1         : M.H +K.k R.L store=L scale=8
a1 a3 66 mem w0         : M.L +K.k R.H store=H scale=4
a1 a3 66 mem w1         : M.L +K.k R.L store=L scale=8
c6 66 mem /1-2,5-6 w0   : K.k M.Z scale=4
c6 66 mem /1-2,5-6 w1   : K.k M.Y scale=8
c7 66 mem /1-2,5-6      : K.k M.Z scale=y
c8 ca cc 66             : =R.Z E.Z *MXCSR
"""

_EVEX_3: Final = """
00-01 04-05 66          : =R.L E.L i1
03 0f 23 42-44 70-73 ce-cf 66 : =R.L V.L E.L i1
08 26 56 np             : =R.L E.L i1 *MXCSR element=2
08-09 26 56 66          : =R.L E.L i1 *MXCSR
0a 27 57 np             : =R.x V.x E.x:2 i1 *MXCSR
0a 66                   : =R.x V.x E.x:4 i1 *MXCSR
0b 66                   : =R.x V.x E.x:8 i1 *MXCSR
14 66                   : =E.d:1 R.x i1
15 66                   : =E.d:2 R.x i1
16 66                   : =E.y R.x i1
17 66                   : =E.d R.x i1
18 38 66                : =R.L V.L E.x i1
19 39 66                : =E.x R.L i1
1a 3a 66                : =R.Z V.Z E.Y i1
1b 3b 66                : =E.Y R.Z i1
1d 66                   : =E.H R.L i1 *MXCSR
1e-1f 3e-3f 66          : =R.k V.L E.L i1
20 66                   : =R.x V.x E.d:1 i1
21 66                   : =R.x V.x E.x:4 i1
22 66                   : =R.x V.x E.y i1
25 66                   : +R.L V.L E.L i1
27 51 57 66             : =R.x V.x E.x:y i1 *MXCSR
50 66                   : =R.L V.L E.L i1 *MXCSR
54 66                   : +R.L V.L E.L i1 *MXCSR
55 66                   : +R.x V.x E.x:y i1 *MXCSR
66 np                   : =R.k E.L i1 *MXCSR element=2
66 66                   : =R.k E.L i1 *MXCSR
67 np                   : =R.k E.x:2 i1 *MXCSR
67 66                   : =R.k E.x:y i1 *MXCSR
c2 np                   : =R.k V.L E.L i1 *MXCSR element=2
c2 f3                   : =R.k V.x E.x:2 i1 *MXCSR
"""

_EVEX_5: Final = """
10 f3 mem               : =R.x M load=2
10 f3 reg               : =R.x V.x E.x
11 f3 mem               : M R.x store=2
11 f3 reg               : =E.x V.x R.x
1d np                   : =R.x V.x E.x:4 *MXCSR
1d 66                   : =R.H E.L *MXCSR element=4
2a 7b f3                : =R.x V.x E.y *MXCSR
2c-2d 78-79 f3          : =R.y E.x:2 *MXCSR
2e-2f np                : R.x E.x:2 *MXCSR flags=w
51 np                   : =R.L E.L *MXCSR
51 58-5a 5c-5f f3       : =R.x V.x E.x:2 *MXCSR
58-59 5c-5f np          : =R.L V.L E.L *MXCSR
5a np                   : =R.L E.x:Q *MXCSR
5a 66                   : =R.x E.L *MXCSR element=8
5a f2                   : =R.x V.x E.x:8 *MXCSR
5b np w0                : =R.H E.L *MXCSR element=y
5b np w1                : =R.x E.L *MXCSR element=y
5b 66 f3                : =R.L E.H *MXCSR
6e 66                   : =R.x E.y:2
78-79 np                : =R.L E.H *MXCSR
78-7b 66                : =R.L E.x:Q *MXCSR
7a f2 w0                : =R.H E.L *MXCSR element=y
7a f2 w1                : =R.x E.L *MXCSR element=y
7c np 66                : =R.L E.L *MXCSR
7d                      : =R.L E.L *MXCSR
7e 66                   : =E.y:2 R.x
"""

_EVEX_6: Final = """
13 np                   : =R.x V.x E.x:2 *MXCSR
13 66                   : =R.L E.H *MXCSR
2c 66                   : =R.L V.L E.L *MXCSR
2d 43 66                : =R.x V.x E.x:2 *MXCSR
42 66                   : =R.L E.L *MXCSR
4c 4e 66                : =R.L E.L
4d 4f 66                : =R.x V.x E.x:2
56 f3 f2                : +R.L V.L E.L *MXCSR element=4
57 f3 f2                : +R.x V.x E.x:4 *MXCSR
96-98 9a 9c 9e a6-a8 aa ac ae b6-b8 ba bc be 66 : +R.L V.L E.L *MXCSR
99 9b 9d 9f a9 ab ad af b9 bb bd bf 66 : +R.x V.x E.x:2 *MXCSR
d6 f3 f2                : =R.L V.L E.L *MXCSR element=4
d7 f3 f2                : =R.x V.x E.x:4 *MXCSR
"""

#: By the map field of EVEX.
EVEX_MAPS: Final = {1: _EVEX_1, 2: _EVEX_2, 3: _EVEX_3, 5: _EVEX_5, 6: _EVEX_6}
