"""What memory each opcode reads and writes, as tables.

Lines are in the language of `pydbi.x86.opcode_maps`; a property describes one access::

    direction size [element] [+] [@place]

``r`` or ``w``; the size in bytes, or a letter: ``v`` 2, 4 or 8 by operand size; ``y`` 4 or 8 by W;
``k`` 8, or 2 with an operand-size prefix (stack); ``m`` 4, or 2 with one; ``V`` the vector's
length, ``h`` half of it, ``q`` a quarter, ``e`` an eighth; ``H`` half of it
or all by W, ``D`` 8 where it is 16 bytes; ``u`` 1 or 2 by W, ``f`` 2 or 8, ``g`` 1 or 4, ``c`` 8 or
16; ``p`` a far pointer, ``E`` an x87 environment, ``S`` the whole x87 state.

Under EVEX an opmask, and a broadcast bit, change what is accessed. The element, in bytes or as a
letter, is what one bit of the mask stands for, and what a broadcast reads; y, or the whole of a
scalar, if nothing is said. ``%`` the selected elements in their places (also if nothing is said),
``&`` as many elements one behind the other, ``~`` all of it if any is selected, ``!`` all of it in
any case. ``+`` is a size at least.

Without a place it is ModRM's operand, in its memory form. Reads come before writes, and a line
without properties says that nothing is accessed.

Source: Intel SDM volume 2, the instruction pages, and table 2-34 ff. for EVEX; AMD APM volume 4.
"""

from __future__ import annotations

from typing import Final

ONE_BYTE: Final = """
00 08 10 18 20 28 30    : r1 w1
01 09 11 19 21 29 31    : rv wv
02 0a 12 1a 22 2a 32 38 3a : r1
03 0b 13 1b 23 2b 33 39 3b : rv
50-57                   : wk@push
58-5f                   : rk@pop
63                      : r4
68 6a                   : wk@push
69 6b                   : rv
6c                      : w1@destination
6d                      : wm@destination
6e                      : r1@source
6f                      : rm@source
80 /0-6                 : r1 w1
80 /7                   : r1
81 83 /0-6              : rv wv
81 83 /7                : rv
84                      : r1
85                      : rv
86                      : r1 w1
87                      : rv wv
88                      : w1
89                      : wv
8a                      : r1
8b                      : rv
8c                      : w2
8e                      : r2
8f                      : rk@pop wk
9c                      : wk@push
9d                      : rk@pop
a0                      : r1@absolute
a1                      : rv@absolute
a2                      : w1@absolute
a3                      : wv@absolute
a4                      : r1@source w1@destination
a5                      : rv@source wv@destination
a6                      : r1@source r1@destination
a7                      : rv@source rv@destination
aa                      : w1@destination
ab                      : wv@destination
ac                      : r1@source
ad                      : rv@source
ae                      : r1@destination
af                      : rv@destination
c0 d0 d2                : r1 w1
c1 d1 d3                : rv wv
c2-c3                   : r8@pop
c6 mem                  : w1
c7 mem                  : wv
c8                      : rk@enter wk@enter
c9                      : rk@frame
d7                      : r1@table
d8 da                   : r4
d9 /0                   : r4
d9 /2-3                 : w4
d9 /4                   : rE
d9 /5                   : r2
d9 /6                   : wE
d9 /7                   : w2
db /0                   : r4
db /1-3                 : w4
db /5                   : r10
db /7                   : w10
dc                      : r8
dd /0                   : r8
dd /1-3                 : w8
dd /4                   : rS
dd /6                   : wS
dd /7                   : w2
de                      : r2
df /0                   : r2
df /1-3                 : w2
df /4                   : r10
df /5                   : r8
df /6                   : w10
df /7                   : w8
e8                      : w8@push
f6 /0-1,4-7             : r1
f6 /2-3                 : r1 w1
f7 /0-1,4-7             : rv
f7 /2-3                 : rv wv
fe                      : r1 w1
ff /0-1                 : rv wv
ff /2                   : r8 w8@push
ff /4                   : r8
ff /6                   : rk wk@push
"""

TWO_BYTE: Final = """
00 /0-1                 : w2
00 /4-5                 : r2
01 mem /0-1             : w10
01 mem /4               : w2
01 mem f3 /5            : r8 w8
01 =fc                  : w64@line
02-03                   : r2
0f                      : r8
10 np 66                : r16
10 f3                   : r4
10 f2                   : r8
11 np 66                : w16
11 f3                   : w4
11 f2                   : w8
12 16 np 66             : r8
12 16 f3                : r16
12 f2                   : r8
13 17                   : w8
14-15 28                : r16
29                      : w16
2a np 66                : r8
2a f3 f2                : ry
2b np 66                : w16
2b f3                   : w4
2b f2                   : w8
2c-2d np f2             : r8
2c-2d 66                : r16
2c-2d f3                : r4
2e-2f np                : r4
2e-2f 66                : r8
40-4f                   : rv
51-59 5c-5f c2 np 66    : r16
51-59 5c-5f c2 f3       : r4
51-59 5c-5f c2 f2       : r8
5a np                   : r8
5a 66                   : r16
5a f3                   : r4
5a f2                   : r8
5b                      : r16
60-62 np                : r4
60-62 66                : r16
63-6b 74-76 d1-d5 d8-e5 e8-ef f1-f6 f8-fe np : r8
63-6d 74-76 d1-d5 d8-e5 e8-ef f1-f6 f8-fe 66 : r16
6e                      : ry
6f 70 np                : r8
6f 70 66 f3 f2          : r16
7c-7d d0                : r16
7e np 66                : wy
7e f3                   : r8
7f np                   : w8
7f 66 f3                : w16
90-9f                   : w1
a0 a8                   : wk@push
a1 a9                   : rk@pop
a3                      : rv@bits
ab b3 bb                : rv@bits wv@bits
a4-a5 ac-ad             : rv wv
ae np mem /0            : w512
ae np mem /1            : r512
ae np mem /2            : r4
ae np mem /3            : w4
ae np mem /4            : r576+ w576+
ae np mem /5            : r576+
ae np mem /6            : r576+ w576+
ae f3 mem /4            : ry
ae f3 mem /6            : r8 w8
af                      : rv
b0 c0                   : r1 w1
b1 c1                   : rv wv
b2 b4-b5                : rp
b6 be                   : r1
b7 bf                   : r2
b8 bc-bd                : rv
ba /4                   : rv
ba /5-7                 : rv wv
c3                      : wy
c4                      : r2
c6                      : r16
c7 mem /1               : rc wc
c7 mem /3               : r576+
c7 mem /4-5             : r576+ w576+
d6 66                   : w8
e6 66 f2                : r16
e6 f3                   : r8
e7 np                   : w8
e7 66                   : w16
f0 f2                   : r16
f7 np                   : w8%1@masked
f7 66                   : w16%1@masked
"""

THREE_BYTE_38: Final = """
00-0b 1c-1e np          : r8
00-0b 1c-1e 66          : r16
10 14-15 17 28-29 2a-2b 37-41 66 : r16
20 23 25 30 33 35 66    : r8
21 24 31 34 66          : r4
22 32 66                : r2
c8-cd np                : r16
cf db-df 66             : r16
d8 f3 mem /0,2          : r48
d8 f3 mem /1,3          : r64
dc-dd f3 mem            : r48
de-df f3 mem            : r64
f0-f1 f2                : rv
f0 f2                   : r1
f0 np 66                : rv
f1 np 66                : wv
f5 66                   : wy
f6 np                   : wy
f6 66 f3                : ry
f8                      : r64 w64@register
f9 np                   : wy
fc                      : ry wy
"""

THREE_BYTE_3A: Final = """
08-09 0b-0f 40-42 44 60-63 cc ce-cf df : r16
0a                      : r4
0b                      : r8
0f np                   : r8
14                      : w1
15                      : w2
16                      : wy
17                      : w4
20                      : r1
21                      : r4
22                      : ry
"""
