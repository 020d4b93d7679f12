"""x87 and MMX: every exception is masked, so the register stack may over- and underflow."""

from __future__ import annotations

from tests.exec.snippets import Group, Writer, words

X87 = [
    *(f"{op} {form}" for op in ("fadd", "fsub", "fsubr", "fmul", "fdiv", "fdivr")
      for form in ("<m32>", "<m64>", "st, <st>", "<st>, st")),
    *(f"{op} <st>, st" for op in ("faddp", "fsubp", "fsubrp", "fmulp", "fdivp", "fdivrp")),
    *(f"{op} {form}" for op in ("fiadd", "fisub", "fimul", "fidivr", "ficom", "ficomp")
      for form in ("<m16>", "<m32>")),
    *(f"f{op} <m{size}>" for op in ("ld", "st", "stp") for size in (32, 64)),
    *(f"fi{op} <m{size}>" for op in ("ld", "st", "stp") for size in (16, 32)),
    "fld <m80>", "fstp <m80>", "fild <m64>", "fistp <m64>", "fbld <m80>", "fbstp <m80>",
    *(f"fisttp <m{size}>" for size in (16, 32, 64)),
    "fld <st>", "fst <st>", "fstp <st>", "fxch <st>", "fcom <st>", "fcomp <m64>", "fucom <st>",
    "fcompp", "fucompp", "fcomi st, <st>", "fcomip st, <st>", "fucomi st, <st>", "fucomip st, <st>",
    *(f"fcmov{cc} st, <st>" for cc in ("b", "nb", "e", "ne", "be", "nbe", "u", "nu")),
    *words(
        """
        fld1 fldz fldpi fldl2e fldl2t fldlg2 fldln2 fabs fchs fsqrt frndint fscale fxtract
        fprem fprem1 fxam ftst f2xm1 fyl2x fyl2xp1 fpatan fptan fsin fcos fsincos fdecstp
        fincstp fnop fwait fnclex fninit
        """
    ),
    "ffree <st>", "fnstsw ax", "fnstsw <m16>", "fnstcw <m16>", "fnstsw ax; sahf",
]  # fmt: skip
MMX = [
    *(f"{op} <mm>, <mms>" for op in words(
        """
        paddb paddw paddd paddsb paddusw psubb psubd psubsw pmullw pmulhw pmaddwd pcmpeqb
        pcmpgtw punpckhwd packsswb packuswb packssdw pand pandn por pxor psllw pslld psllq
        psrlw psrld psrlq psraw psrad pavgb pmaxub pminsw psadbw pmuludq paddq pmulhuw
        """
    )),
    "punpcklbw <mm>, <mm>", "punpckldq <mm>, <m32>", "movq <mm>, <mms>",
    "movq <m64>, <mm>", "movd <mm>, <sm32>", "movd <dm32>, <mm>",
    "movq <d64>, <mm>", "pshufw <mm>, <mms>, <b>", "pinsrw <mm>, <s32>, <b>",
    "pextrw <d32>, <mm>, <b>", "pmovmskb <d32>, <mm>", "psllq <mm>, <b>", "movntq <m64>, <mm>",
    "movq2dq <x>, <mm>", "movdq2q <mm>, <x>", "cvtpi2ps <x>, <mms>", "cvttps2pi <mm>, <x>",
    "cvtpd2pi <mm>, <x>", "emms",
]  # fmt: skip


def control_word(writer: Writer) -> Group:
    """FLDCW of another precision and rounding, all exceptions masked."""
    rng = writer.rng
    value = 0x7F | rng.choice((0, 2, 3)) << 8 | rng.getrandbits(2) << 10
    place = writer.memory(16)
    return [f"mov {place}, {value}", f"fldcw {place}", writer.expand(rng.choice(X87))]


def environment(writer: Writer) -> Group:
    """FNSTENV or FNSAVE, and back; the instruction and data pointers in it are wiped first.

    (An instruction pointer of the x87 is where the instruction really ran; which operand it had is
    not recorded by all CPUs.)
    """
    save, load = writer.rng.choice((("fnstenv", "fldenv"), ("fnsave", "frstor")))
    place = 0x1800 + writer.rng.randrange(64)
    wipe = [f"mov dword ptr [rip + data + {place + at}], 0" for at in (12, 16, 20, 24)]
    lines = [f"{save} [rip + data + {place}]", *wipe]
    if writer.rng.random() < 0.6:
        lines += [writer.expand(writer.rng.choice(X87)), f"{load} [rip + data + {place}]"]
    return lines


def x87(writer: Writer) -> Group:
    """One group of any kind above."""
    rng = writer.rng
    kind = rng.randrange(16)
    if kind == 0:
        return control_word(writer)
    if kind == 1:
        return environment(writer)
    return [writer.expand(rng.choice(MMX if kind < 6 else X87))]
