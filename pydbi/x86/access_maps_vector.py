"""What memory each VEX, EVEX and XOP opcode reads and writes: see `pydbi.x86.access_maps`."""

from __future__ import annotations

from typing import Final

VEX_1: Final = """
10 12 14-16 28 51-76 7c-7d c2 c6 d0 d4-d5 d8-df e0 e3-e5 e8-ef f0 f4-f6 f8-fe : rV
d1-d3 e1-e2 f1-f3 66    : r16
10 51-53 58-59 5c-5f c2 2c-2e f3 : r4
10 51-53 58-59 5c-5f c2 2c-2e f2 : r8
11 29 2b 7f e7 np 66 f3 : wV
11 f3                   : w4
11 f2                   : w8
12 16 np 66             : r8
12 f2                   : rD
13 17                   : w8
2a                      : ry
2e-2f np                : r4
2e-2f 66                : r8
5a np                   : rh
5a f3                   : r4
5a f2                   : r8
6e                      : ry
7e 66                   : wy
7e f3                   : r8
90 np                   : rf
90 66                   : rg
91 np                   : wf
91 66                   : wg
ae np mem /2            : r4
ae np mem /3            : w4
c4                      : r2
d6 66                   : w8
e6 66 f2                : rV
e6 f3                   : rh
f7 66                   : w16%1@masked
"""

VEX_2: Final = """
00-ff                   : rV
13                      : rh
18 58                   : r4
19 59                   : r8
1a 5a                   : r16
20 23 25 30 33 35       : rh
21 24 31 34             : rq
22 32                   : re
2c                      : rV%4
2d                      : rV%8
2e                      : wV%4
2f                      : wV%8
49 np mem               : r64
49 66 mem               : w64
4b 66 f2 mem            : r0@tile
4b f3 mem               : w0@tile
78                      : r1
79 b1                   : r2
8c                      : rV%y
8e                      : wV%y
90-93                   : ry@vector
99 9b 9d 9f a9 ab ad af b9 bb bd bf f2-f3 f5-f7 : ry
e0-ef                   : ry wy
"""

VEX_3: Final = """
00-ff                   : rV
0a                      : r4
0b                      : r8
14                      : w1
15                      : w2
16                      : wy
17                      : w4
18 38                   : r16
19 39                   : w16
1d                      : wh
20                      : r1
21                      : r4
22 f0                   : ry
6a 6e 7a 7e             : r4
6b 6f 7b 7f             : r8
"""

EVEX_1: Final = """
00-ff                   : rV
12 16 f3                : rV!
12 f2                   : rD!
14-15 60-63 67-6d 70 c6 f5 : rV!
64 74 d8 da dc de e0 e8 ec f8 fc 66 : rV%1
65 71 75 d5 d9 dd e3-e5 e9-ea ed-ee f9 fd 66 : rV%2
11 29 2b 7f e7 np 66 f3 : wV
6f f2                   : rV%u
7f f2                   : wV%u
10 f3                   : r4
10 f2                   : r8
11 f3                   : w4
11 f2                   : w8
12 16 np 66             : r8
13 17                   : w8
2a 7b f3 f2             : ry
2c-2d 51 58-59 5a 5c-5f 78-79 c2 f3 : r4
2c-2d 51 58-59 5a 5c-5f 78-79 c2 f2 : r8
2e-2f np                : r4
2e-2f 66                : r8
5a np                   : rh
6e                      : ry
78-7b 66                : rH
7a f3                   : rH
7e 66                   : wy
7e f3                   : r8
c4                      : r2
d1-d3 e1-e2 f1-f3       : r16!
d6                      : w8
e6 f3                   : rH
"""

EVEX_2: Final = """
00-ff                   : rV
00 04 0c-0d 16 2b 36 75-77 7d-7f 83 8d c4 66 : rV!
72 f2                   : rV!
0b 10-12 1d 3a 3e 70 72 66 : rV%2
1c 38 3c 8f cf 66       : rV%1
26 54 66-66 66          : rV%u
26 f3                   : rV%u
13 66                   : rh%2
20 30 66                : rh%1
21 31 66                : rq%1
22 32 66                : re%1
23 33 66                : rh%2
24 34 66                : rq%2
25 35 66                : rh%4
10 20 30 f3             : wh%1
11 21 31 f3             : wq%1
12 22 32 f3             : we%1
13 23 33 f3             : wh%2
14 24 34 f3             : wq%2
15 25 35 f3             : wh%4
18 58                   : r4~4
19 59                   : r8~y
1a 5a                   : r16~y
1b 5b                   : r32~y
2d 43 4d 4f 99 9b 9d 9f a9 ab ad af b9 bb bd bf cb cd 66 : ry
52-53 9a-9b aa-ab f2    : r16!
62                      : rV&u
63                      : wV&u
78                      : r1~1
79                      : r2~2
88-89                   : rV&y
8a-8b                   : wV&y
90-93                   : ry@vector
a0-a3                   : wy@vector
c6-c7                   :
"""

EVEX_3: Final = """
00-ff                   : rV
00-01 03-05 0f 23 42-43 ce-cf 66 : rV!
3e-3f                   : rV%u
70 72                   : rV%2
08 26 56 c2 66-66 np    : rV%2
0a np                   : r2
0a 66                   : r4
0b                      : r8
14                      : w1
15                      : w2
16                      : wy
17                      : w4
18 38                   : r16!
19 39                   : w16%y
1a 3a                   : r32!
1b 3b                   : w32%y
1d                      : wh%2
20                      : r1
21                      : r4
22                      : ry
27 51 55 57 67 66       : ry
27 57 67 np             : r2
c2 f3                   : r2
"""

EVEX_5: Final = """
00-ff np 66             : rV%2
00-ff f3 f2             : r2
11                      : w2
1d np                   : r4
1d 66                   : rV%4
2a f3                   : ry
2e-2f                   : r2
5a np                   : rq%2
5a 66                   : rV%8
5a f2                   : r8
5b np                   : rV
5b 66 f3                : rh%2
6e                      : r2
7e                      : w2
78-79 np                : rh%2
78-7b 66                : rq%2
7a f2                   : rV
7b f3                   : ry
7d                      : rV%2
"""

EVEX_6: Final = """
00-ff                   : rV%2
13 np                   : r2
13 66                   : rh%2
2d 43 4d 4f 99 9b 9d 9f a9 ab ad af b9 bb bd bf : r2
56 d6                   : rV%4
57 d7                   : r4
"""

XOP_8: Final = "00-ff : rV"
XOP_9: Final = """
00-ff                   : rV
01-02                   : ry
82                      : r4
83                      : r8
"""
XOP_10: Final = """
10                      : ry
12                      : r4
"""
