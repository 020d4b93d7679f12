"""The opcode maps of VEX, EVEX and XOP, in the language of `pydbi.x86.opcode_maps`."""

from __future__ import annotations

from typing import Final

VEX_1: Final = """
10-11                   : M
12 16 np 66 f3          : M
12 f2                   : M
13 17 np 66 mem         : M
14-15 28-29 2e-2f 54-57 c6 np 66 : M
2a 2c-2d f3 f2          : M
2b np 66 mem            : M
41-42 44-47 4a-4b np 66 reg : M AVX512
50 np 66 reg            : M
51 58-59 5a 5c-5f       : M
52-53 np f3             : M
5b np 66 f3             : M
60-6e 74-76 d1-d6 d8-df e0-e5 e8-ef f1-f6 f8-fe 66 : M
6f 7f 66 f3             : M
70 66 f3 f2             : M b
71-72 66 reg /2,4,6     : M b
73 66 reg /2-3,6-7      : M b
77 np                   :
7c-7d d0 66 f2          : M
7e 66 f3                : M
90 np 66                : M AVX512
91 np 66 mem            : M AVX512
92 np 66 f2 reg         : M AVX512
93 np 66 f2 reg         : M AVX512
98-99 np 66 reg         : M AVX512
ae np mem /2-3          : M
c2                      : M b
c4 66                   : M b
c5 66 reg               : M b
c6 np 66                : M b
d7 66 reg               : M
e6 66 f3 f2             : M
e7 66 mem               : M
f0 f2 mem               : M
f7 66 reg               : M DATA
"""

VEX_2: Final = """
00-0f 13 16-19 1c-1e 20-25 28-29 2b 30-41 45-47 58-59 8c 8e 96-9f a6-af b6-bf cf dc-df f7 66 : M
1a 2a 2c-2f 5a 90-93 66 mem : M
db 66                   : M
49 np mem /0            : M
49 66 mem /0            : M
49 np =c0               : M
49 f2 reg               : M
4b 66 f3 f2 mem         : M
50-51                   : M
52-53 66                : M
5c f3 f2 reg            : M
5e np 66 f3 f2 reg      : M
72 f3                   : M
78-79 66                : M
8c 8e mem 66            : M
8c 8e reg 66            : INVALID
90-93 66 mem            : M
b0 np 66 f3 f2 mem      : M
b1 66 f3 mem            : M
b4-b5 66                : M
cb-cd f2 reg            : M
d2-d3 np 66 f3          : M
da np 66 f3 f2          : M
e0-ef 66 mem            : M LOCK
f2 np                   : M
f3 np /1-3              : M
f5 np f3 f2             : M
f6 f2                   : M
f7                      : M
"""

VEX_3: Final = """
00-02 04-06 08-0f 14-19 1d 20-22 38-39 40-42 44 46 48-49 4a-4c 5c-5f 60-63 68-6f 78-7f 66 : M b
30-33 66 reg            : M b AVX512
ce-cf de df 66          : M b
f0 f2                   : M b
"""

#: EVEX maps by number; every form has ModRM and, in map 3 and for some of map 1, one immediate.
EVEX_1: Final = """
10-11 51 58-59 5a 5c-5f 78-79 : M
12 16                   : M
16 f2                   : INVALID
13 17 2b np 66 mem      : M
14-15 28-29 2e-2f 54-57 np 66 : M
2a 2c-2d f3 f2          : M
2a 2d 66 np             : INVALID
5b np 66 f3             : M
60-6e 74-76 d1-d6 d8-df e0-e5 e8-ef f1-f6 f8-fe 66 : M
6f 7f 66 f3 f2          : M
70 66 f3 f2             : M b
71 66 /2,4,6            : M b
72 66 /0-2,4,6          : M b
73 66 /2-3,6-7          : M b
7a 66 f3 f2             : M
7b 66 f3 f2             : M
7e 66 f3                : M
c2                      : M b
c4 66                   : M b
c5 66 reg               : M b
c6 np 66                : M b
e6 66 f3 f2             : M
e7 66 mem               : M
"""

EVEX_2: Final = """
00 04 0b-0d 10-16 18-1f 20-2d 30-40 42-47 4c-4f 50-55 58-5b 62-66 70-73 75-7f 66 : M
83 88-8b 8d 8f 90-93 96-9f a0-a3 a6-af b4-bf c4 c6-c8 ca-cd cf dc-df 66 : M
10-15 20-25 28-2a 30-35 38-3a 26-27 52 72 f3 : M
28 38 reg f3            : M
52-53 68 72 9a-9b aa-ab f2 : M
72 f2                   : M
"""

EVEX_3: Final = """
00-01 03-05 08-0b 0f 14-1b 1d-1f 20-23 25-27 38-3b 3e-3f 66 : M b
42-44 50-51 54-57 66-67 70-73 ce-cf 66 : M b
08 0a 26-27 56-57 66-67 c2 np : M b
c2 f3                   : M b
"""

EVEX_5: Final = """
10-11 f3                : M
1d 5a np 66             : M
51 58-59 5c-5f 5a np f3 : M
2c-2d 2a f3             : M
2e-2f np                : M
5a f2                   : M
5b np 66 f3             : M
6e 7e 66                : M
78-79 np 66 f3          : M
7a 66 f2                : M
7b 66 f3                : M
7c-7d np 66             : M
7d f3 f2                : M
"""

EVEX_6: Final = """
13 np 66                : M
2c-2d 42-43 4c-4f 96-9f a6-af b6-bf 66 : M
56-57 d6-d7 f3 f2       : M
"""

#: XOP (AMD APM volume 6): map 8 carries one immediate byte, map 9 none, map 10 four.
XOP_8: Final = "00-ff : M b"
XOP_9: Final = "00-ff : M"
XOP_10: Final = "00-ff : M d"
