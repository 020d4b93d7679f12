"""The legacy opcode maps: which opcodes exist, what follows them, and what they do to the engine.

Each line of a specification reads ``opcodes selectors : properties``.

Opcodes are hexadecimal numbers and ranges. Selectors narrow a line down, later lines override
earlier ones: ``np 66 f3 f2`` (mandatory prefix, np is none of them), ``mem`` or ``reg`` (ModRM
form), ``/0,2-3`` (ModRM reg field), ``=f8,fa-fb`` (the whole ModRM byte).

Properties: ``M`` ModRM follows; ``R`` ModRM follows and always names registers, whatever its mod
field says. Immediates: ``b`` 1 byte, ``w`` 2, ``bb`` 1 and 1, ``wb`` 2 and 1, ``z`` 2 or 4 by
operand size, ``v`` 2, 4 or 8 by operand size, ``o`` an absolute address of 4 or 8 bytes,
``j`` a relative address of near branches. ``LOCK``: may be locked when its operand is memory.
``STRING``: may be repeated. ``DATA``: memory access through DS by implied registers.
``ADDRESS``: ModRM's memory form is no access (lea). ``INVALID``: takes the opcode away again.
Other words are names in :mod:`pydbi.x86.traits`.

Source: Intel SDM volume 2, appendix A (opcode maps), and AMD APM volume 3, appendix A; where the
two differ or are silent the processor was asked (tests/x86/test_scanner.py).
"""

from __future__ import annotations

from typing import Final

ONE_BYTE: Final = """
00-03 08-0b 10-13 18-1b 20-23 28-2b 30-33 38-3b : M
00-01 08-09 10-11 18-19 20-21 28-29 30-31       : M LOCK
04 0c 14 1c 24 2c 34 3c : b
05 0d 15 1d 25 2d 35 3d : z
50-5f                   :
63                      : M
68                      : z
69                      : M z
6a                      : b
6b                      : M b
6c-6d                   : STRING
6e-6f                   : STRING DATA
70-7f                   : b JCC
80 83                   : M b LOCK
81                      : M z LOCK
80 83 /7                : M b
81 /7                   : M z
84-85 88-8b             : M
86-87                   : M LOCK
8c /0-5                 : M
8d mem                  : M ADDRESS
8e /0,2-3               : M
8e /4-5                 : M SEGMENT_LOAD
8f /0                   : M
90-99                   :
9b                      : X87
9c 9e-9f                :
9d                      : SYSTEM_FLAGS
a0-a3                   : o
a4-a7 ac-ad             : STRING DATA
a8                      : b
a9                      : z
aa-ab ae-af             : STRING
b0-b7                   : b
b8-bf                   : v
c0-c1                   : M b
c2                      : w RET
c3                      : RET
c6 /0                   : M b
c6 =f8                  : M b
c7 /0                   : M z
c7 =f8                  : M z XBEGIN
c8                      : wb
c9                      :
ca                      : w FAR
cb                      : FAR
cc                      : TRAP
cd                      : b TRAP
cf                      : FAR SYSTEM_FLAGS
d0-d3                   : M
d7                      : DATA
d8-df                   : M X87
d9 mem /1               : INVALID
d9 =d1-d7,e2-e3,e6-e7,ef : INVALID
da =e0-e8,ea-ff         : INVALID
db mem /4,6             : INVALID
db =e5-e7,f8-ff         : INVALID
dd mem /5               : INVALID
dd =f0-ff               : INVALID
de =d8,da-df            : INVALID
df =e1-e7,f8-ff         : INVALID
e0-e3                   : b LOOP
e4-e7                   : b
e8                      : j CALL
e9                      : j JMP
eb                      : b JMP
ec-ef                   :
f1 f4                   : TRAP
f5 f8-f9                :
f6 /0-1                 : M b
f6 /2-3                 : M LOCK
f6 /4-7                 : M
f7 /0-1                 : M z
f7 /2-3                 : M LOCK
f7 /4-7                 : M
fa-fd                   : SYSTEM_FLAGS
fe /0-1                 : M LOCK
ff /0-1                 : M LOCK
ff /2                   : M CALL_INDIRECT
ff /4                   : M JMP_INDIRECT
ff mem /3,5             : M FAR
ff /6                   : M
"""

TWO_BYTE: Final = """
00 /0-1,4-5             : M
00 /2-3                 : M TRAP
00 mem /5               : M LOCK
01 mem /0-1,4           : M
01 mem /2-3,6-7         : M TRAP
01 mem f3 /5            : M
01 reg /4               : M
01 reg /6               : M TRAP
01 =c0-c5,c8-c9,cf-d1,d8-d9 : M
01 =c8,fa,fc            : M DATA
01 =ca-cb               : M TRAP
01 =d4-d7,da-df         : M
01 f2 =e8-e9            : M
01 f3 =e8,ea,ec-ef      : M
01 np =e8               : M
01 =ee-ef,f9,fb,fd      : M
01 =f8,fe-ff            : M TRAP
02-03                   : M
05                      : SYSCALL
06 08-09                : TRAP
07                      : FAR
0b                      : TRAP
0d                      : M
0e                      : X87
0f                      : M b X87
10-12 16 51 58-59 5c-5f : M SSE
12 16 66 reg            : INVALID
16 f2                   : INVALID
13 17 np 66 mem         : M SSE
14-15 np 66             : M SSE
18-1f                   : M
20-23                   : R TRAP
28-29 2e-2f 54-57 np 66 : M SSE
2a 2c-2d                : M SSE
2a 2c-2d np 66          : M SSE X87
2b mem                  : M SSE
30 32 37                : TRAP
31 33                   :
34-35                   : FAR
40-4f                   : M
50 np 66 reg            : M SSE
52-53 np f3             : M SSE
5a                      : M SSE
5b np 66 f3             : M SSE
60-62 63-6b 6e 74-76 d1-d3 d5 d8-df e0-e5 e8-ef f1-f6 f8-fe np : M X87
60-6e 74-76 d1-d5 d8-df e0-e5 e8-ef f1-f6 f8-fe 66 : M SSE
6f 7f np                : M X87
6f 7f 66 f3             : M SSE
70 np                   : M b X87
70 66 f3 f2             : M b SSE
71-72 reg np /2,4,6     : M b X87
71-72 reg 66 /2,4,6     : M b SSE
73 reg np /2,6          : M b X87
73 reg 66 /2-3,6-7      : M b SSE
77 np                   : X87
78-79 np                : M TRAP
78 66 reg /0            : M bb SSE
78 f2 reg               : M bb SSE
79 66 f2 reg            : M SSE
7c-7d d0 66 f2          : M SSE
7e np                   : M X87
7e 66 f3                : M SSE
80-8f                   : j JCC
90-9f                   : M
a0 a2 a8                :
a1 a9                   : SEGMENT_LOAD
a3 a5 ad af             : M
a4 ac                   : M b
aa                      : TRAP
ab b0-b1 b3 bb c0-c1    : M LOCK
ae np mem /0-1          : M X87 SSE
ae np mem /2-3          : M SSE
ae np mem /4-6          : M X87 SSE AVX512
ae np mem /7            : M
ae np reg /5-7          : M
ae f3 reg /0,2          : M FSBASE
ae f3 reg /1,3          : M GSBASE
ae f3 /4                : M
ae f3 reg /5            : M
ae f3 mem /6            : M
ae f3 reg /6            : M DATA
ae f2 reg /6            : M
ae 66 /6                : M
ae 66 mem /7            : M
b2 mem                  : M
b4-b5 mem               : M SEGMENT_LOAD
b6-b7 bc-bf             : M
b8 f3                   : M
b9                      : M TRAP
ba /4                   : M b
ba /5-7                 : M b LOCK
c2                      : M b SSE
c3 np mem               : M
c4 np                   : M b X87
c4 66                   : M b SSE
c5 np reg               : M b X87
c5 66 reg               : M b SSE
c6 np 66                : M b SSE
c7 mem /1               : M LOCK
c7 np mem /3-5          : M X87 SSE AVX512
c7 np 66 f3 mem /6       : M TRAP
c7 np mem /7            : M TRAP
c7 np 66 reg /6-7       : M
c7 f3 reg /6-7          : M
c8-cf                   :
d4 np                   : M X87
d6 66                   : M SSE
d6 f3 f2 reg            : M SSE X87
d7 np reg               : M X87
d7 66 reg               : M SSE
e6 66 f3 f2             : M SSE
e7 np mem               : M X87
e7 66 mem               : M SSE
f0 f2 mem               : M SSE
f7 np reg               : M X87 DATA
f7 66 reg               : M SSE DATA
ff                      : M TRAP
"""

#: Map 0f 38.
THREE_BYTE_38: Final = """
00-0b 1c-1e np          : M X87
00-0b 1c-1e 66          : M SSE
10 14-15 17 20-25 28-29 2b 30-35 37-41 66 : M SSE
2a mem 66               : M SSE
80-82 mem 66            : M TRAP
c8-cd np                : M SSE
cf db-df 66             : M SSE
d8 f3 mem /0-3          : M SSE
dc f3                   : M SSE
dd-df f3 mem            : M SSE
fa-fb f3 reg            : M SSE
f0-f1 np 66 mem         : M
f0-f1 f2                : M
f5 66 mem               : M
f6 np mem               : M
f6 66 f3                : M
f8 66 f2 f3 mem         : M
f9 np mem               : M
fc np 66 f2 f3 mem      : M
"""

#: Map 0f 3a.
THREE_BYTE_3A: Final = """
0f np                   : M b X87
08-0f 14-17 20-22 40-42 44 60-63 ce-cf df 66 : M b SSE
cc np                   : M b SSE
f0 f3 =c0               : M b
"""
