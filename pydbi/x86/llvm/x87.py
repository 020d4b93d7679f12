"""Names of the x87 instructions, in the language of `pydbi.x86.llvm.templates`.

LLVM's scheme: the operation, ``_F`` or ``_FI`` for a floating-point or integer operand, ``P`` where
the stack is popped, then the memory operand's size and ``m``, or which stack register is written:
``ST0r`` the top, ``rST0`` the other one. The reversed forms to a stack register carry the names of
the arithmetic, not of the opcode: dc e0 is SUBR, de e9 SUB.
"""

from __future__ import annotations

from typing import Final

__all__ = ["X87"]

X87: Final = """
d8 mem /0-1,4-7 : {ADD|MUL|||SUB|SUBR|DIV|DIVR}_F32m
dc mem /0-1,4-7 : {ADD|MUL|||SUB|SUBR|DIV|DIVR}_F64m
da mem /0-1,4-7 : {ADD|MUL|||SUB|SUBR|DIV|DIVR}_FI32m
de mem /0-1,4-7 : {ADD|MUL|||SUB|SUBR|DIV|DIVR}_FI16m
d8 mem /2-3     : FCOM{|||P}32m
dc mem /2-3     : FCOM{|||P}64m
da mem /2-3     : FICOM{|||P}32m
de mem /2-3     : FICOM{|||P}16m
d8 reg      : {ADD|MUL|COM|COMP|SUB|SUBR|DIV|DIVR}_FST0r
dc reg      : {ADD|MUL|COM|COMP|SUBR|SUB|DIVR|DIV}_FrST0
dc reg /2-3 : {||COM|COMP}_FST0r
de reg      : {ADD|MUL|||SUBR|SUB|DIVR|DIV}_FPrST0
de reg /2   : COMP_FST0r
de =d9      : FCOMPP
d9 mem      : {LD_F32||ST_F32|ST_FP32|FLDENV|FLDCW16|FSTENV|FNSTCW16}m
d9 reg /0   : LD_Frr
d9 reg /1   : XCH_F
d9 =d0      : FNOP
d9 reg /3   : ST_FPrr
d9 =e0-e1,e4-e5 : CHS_F ABS_F TST_F XAM_F
d9 =e8-ee   : LD_F1 FLDL2T FLDL2E FLDPI FLDLG2 FLDLN2 LD_F0
d9 =f0-f7   : F2XM1 FYL2X FPTAN FPATAN FXTRACT FPREM1 FDECSTP FINCSTP
d9 =f8-ff   : FPREM FYL2XP1 SQRT_F FSINCOS FRNDINT FSCALE FSIN FCOS
da reg      : CMOV{B|E|BE|P}_F
da =e9      : UCOM_FPPr
db mem      : {ILD_F32|ISTT_FP32|IST_F32|IST_FP32||LD_F80||ST_FP80}m
db reg      : CMOVN{B|E|BE|P}_F
db =e0-e4   : FNENI FNDISI FNCLEX FNINIT FNSETPM
db reg /5-6 : {|||||U|}COM_FIr
dd mem      : {LD_F64|ISTT_FP64|ST_F64|ST_FP64|FRSTOR||FSAVE|FNSTSW}m
dd reg      : {FFREE|XCH_F|ST_Frr|ST_FPrr|UCOM_Fr|UCOM_FPr}
df mem      : {ILD_F16|ISTT_FP16|IST_F16|IST_FP16|FBLD|ILD_F64|FBSTP|IST_FP64}m
df reg      : {FFREEP|XCH_F|ST_FPrr|ST_FPrr||UCOM_FIPr|COM_FIPr}
df =e0      : FNSTSW16r
"""
