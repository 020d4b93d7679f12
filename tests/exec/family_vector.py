"""SSE to AVX2: arithmetic, conversions, moves, shuffles, MXCSR."""

from __future__ import annotations

from tests.exec.snippets import Group, Writer, words

_ARITHMETIC = ("add", "sub", "mul", "div", "min", "max", "sqrt")
_PACKED_INTEGER = words(
    """
        paddb paddw paddd paddq paddsb paddusw psubb psubw psubd psubq psubsw psubusb pmullw
        pmulhw pmulhuw pmuludq pmaddwd pavgb pavgw psadbw pmaxub pminub pmaxsw pminsw pcmpeqb
        pcmpeqw pcmpeqd pcmpgtb pcmpgtw pcmpgtd punpcklbw punpckhwd punpckldq punpckhqdq
        packsswb packuswb packssdw pand pandn por pxor psllw pslld psllq psrlw psrld psrlq
        psraw psrad
        """
)
_PACKED_INTEGER_4 = words(
    """
        pmulld pmuldq pminsb pminsd pminuw pminud pmaxsb pmaxsd pmaxuw pmaxud packusdw pcmpeqq
        """
)
_PACKED_INTEGER_S3 = words(
    """
        pshufb phaddw phaddd phaddsw phsubw phsubd pmaddubsw pmulhrsw psignb psignw psignd
        """
)
_COMPARE = ("eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord")
_TYPES = (("ps", 128), ("pd", 128), ("ss", 32), ("sd", 64))
_FMA = tuple(
    f"v{op}{order}"
    for op in ("fmadd", "fmsub", "fnmadd", "fnmsub")
    for order in ("132", "213", "231")
)

SSE = [
    *(f"{op}{kind} <x>, <{'xa' if bits == 128 else 'x'}>"
      for op in _ARITHMETIC for kind, bits in _TYPES),
    *(f"{op}{kind} <x>, <m{bits}>" for op in _ARITHMETIC for kind, bits in _TYPES if bits != 128),
    *(f"cmp{cc}{kind} <x>, <{'xa' if bits == 128 else 'x'}>"
      for cc in _COMPARE for kind, bits in _TYPES),
    *(f"{op} <x>, <xa>" for op in _PACKED_INTEGER),
    *(f"{op} <x>, <x>" for op in ("andps", "orpd", "xorps", "andnpd", "unpcklps", "unpckhpd")),
    *(f"{op} <x>, <b>" for op in ("psllw", "pslld", "psllq", "psrlw", "psrad", "pslldq", "psrldq")),
    "movaps <x>, <xa>", "movapd <a128>, <x>", "movups <x>, <xm>", "movups <m128>, <x>",
    "movdqa <x>, <xa>", "movdqu <x>, <xm>", "movdqu <m128>, <x>", "movntps <a128>, <x>",
    "movss <x>, <x>", "movss <x>, <m32>", "movss <m32>, <x>", "movsd <x>, <m64>",
    "movsd <m64>, <x>",
    "movhps <x>, <m64>", "movlps <m64>, <x>", "movhlps <x>, <x>", "movlhps <x>, <x>",
    "movmskps <d32>, <x>", "movmskpd <d64>, <x>", "pmovmskb <d32>, <x>", "movnti <m32>, <s32>",
    "movd <x>, <sm32>", "movd <dm32>, <x>", "movq <x>, <sm64>", "movq <dm64>, <x>",
    "shufps <x>, <xa>, <b>", "shufpd <x>, <x>, <b>", "pshufd <x>, <xa>, <b>",
    "pshuflw <x>, <xa>, <b>", "pshufhw <x>, <xa>, <b>", "pinsrw <x>, <s32>, <b>",
    "pinsrw <x>, <m16>, <b>", "pextrw <d32>, <x>, <b>",
    "cvtsi2ss <x>, <sm32>", "cvtsi2sd <x>, <sm64>", "cvtss2sd <x>, <m32>", "cvtsd2ss <x>, <x>",
    "cvttss2si <d32>, <x>", "cvtsd2si <d64>, <x>", "cvtss2si <d64>, <m32>",
    "cvttsd2si <d32>, <m64>",
    "cvtdq2ps <x>, <xa>", "cvtps2dq <x>, <xa>", "cvttps2dq <x>, <x>", "cvtdq2pd <x>, <x>",
    "cvtpd2ps <x>, <xa>", "cvtps2pd <x>, <m64>", "cvtpd2dq <x>, <x>",
    "rcpps <x>, <xa>", "rsqrtss <x>, <x>",
    "ucomiss <x>, <m32>", "comisd <x>, <x>", "ucomisd <x>, <m64>", "comiss <x>, <x>",
    "sfence", "lfence", "prefetcht0 <m8>",
]  # fmt: skip
AVX = [
    *(f"v{op}{kind} <{v}>, <{v}>, <{v}{'m' if bits == 128 else ''}>"
      for op in _ARITHMETIC[:-1] for kind, bits in _TYPES
      for v in ("x", "y") if bits == 128 or v == "x"),
    *(f"vcmp{cc}{kind} <{v}>, <{v}>, <{v}m>"
      for cc in _COMPARE for kind in ("ps", "pd") for v in "xy"),
    "vsqrtpd <y>, <ym>", "vsqrtss <x>, <x>, <m32>", "vmovups <y>, <ym>", "vmovups <m256>, <y>",
    "vmovaps <y>, <a256>", "vmovdqu <y>, <m256>", "vmovdqu <m128>, <x>", "vmovss <x>, <x>, <x>",
    "vmovsd <m64>, <x>", "vmovddup <y>, <ym>", "vmovsldup <y>, <ym>", "vmovmskps <d32>, <y>",
    "vmovd <dm32>, <x>", "vmovq <x>, <sm64>", "vlddqu <y>, <m256>", "vmovntdq <a256>, <y>",
    "vshufps <y>, <y>, <ym>, <b>", "vpermilps <y>, <ym>, <b>", "vpermilpd <y>, <y>, <ym>",
    "vperm2f128 <y>, <y>, <ym>, <b>", "vinsertf128 <y>, <y>, <xm>, <b>",
    "vextractf128 <xm>, <y>, <b>", "vbroadcastss <y>, <m32>", "vbroadcastsd <y>, <m64>",
    "vbroadcastf128 <y>, <m128>", "vblendps <y>, <y>, <ym>, <b>", "vblendvps <y>, <y>, <ym>, <y>",
    "vroundps <y>, <ym>, <b>", "vroundsd <x>, <x>, <m64>, <b>", "vdpps <y>, <y>, <ym>, <b>",
    "vhaddps <y>, <y>, <ym>", "vunpcklps <y>, <y>, <ym>", "vptest <y>, <ym>", "vtestps <y>, <ym>",
    "vmaskmovps <y>, <y>, <m256>", "vmaskmovpd <m128>, <x>, <x>", "vcvtdq2ps <y>, <ym>",
    "vcvtps2pd <y>, <xm>", "vcvtpd2ps <x>, <y>", "vcvttss2si <d64>, <m32>",
    "vcvtsi2sd <x>, <x>, <s64>",
    "vucomisd <x>, <m64>", "vpextrb <m8>, <x>, <b>", "vpinsrd <x>, <x>, <sm32>, <b>",
    "vpcmpistri <x>, <xm>, <b>", "vpcmpestrm <x>, <xm>, <b>", "vpalignr <x>, <x>, <xm>, <b>",
    "vzeroupper", "vzeroall",
]  # fmt: skip
BY_FEATURE = {
    "sse2": SSE,
    "ssse3": [*(f"{op} <x>, <xa>" for op in _PACKED_INTEGER_S3), "palignr <x>, <xa>, <b>",
              "pabsd <x>, <xa>"],
    "sse4_1": [*(f"{op} <x>, <xa>" for op in _PACKED_INTEGER_4), "pblendw <x>, <xa>, <b>",
               "blendvpd <x>, <xa>", "pblendvb <x>, <x>", "roundss <x>, <m32>, <b>",
               "roundpd <x>, <xa>, <b>", "dpps <x>, <xa>, <b>", "insertps <x>, <m32>, <b>",
               "extractps <dm32>, <x>, <b>", "pinsrb <x>, <m8>, <b>", "pextrq <dm64>, <x>, <b>",
               "pmovsxbw <x>, <m64>", "pmovzxwq <x>, <m32>", "ptest <x>, <xa>",
               "movntdqa <x>, <a128>",
               "mpsadbw <x>, <xa>, <b>", "phminposuw <x>, <xa>"],
    "sse4_2": ["pcmpgtq <x>, <xa>", "pcmpistri <x>, <xm>, <b>", "pcmpestri <x>, <xm>, <b>",
               "pcmpistrm <x>, <xm>, <b>"],
    "pni": ["addsubps <x>, <xa>", "haddpd <x>, <xa>", "hsubps <x>, <xa>", "movddup <x>, <m64>",
            "movshdup <x>, <xa>", "lddqu <x>, <m128>"],
    "aes": ["aesenc <x>, <xa>", "aesdeclast <x>, <xa>", "aeskeygenassist <x>, <xa>, <b>",
            "aesimc <x>, <xa>"],
    "pclmulqdq": ["pclmulqdq <x>, <xa>, <b>"],
    "sha_ni": ["sha1msg1 <x>, <xa>", "sha256rnds2 <x>, <xa>", "sha1rnds4 <x>, <xa>, 2"],
    "sse4a": ["extrq <x>, <x>", "insertq <x>, <x>, 8, 3", "movntss <m32>, <x>"],
    "avx": AVX,
    "avx2": [*(f"v{op} <y>, <y>, <ym>" for op in _PACKED_INTEGER if not op.startswith("psl")
               and not op.startswith("psr")),
             "vpsllvd <y>, <y>, <ym>", "vpsrlvq <y>, <y>, <ym>", "vpsravd <y>, <y>, <ym>",
             "vpslldq <y>, <y>, <b>", "vpsrad <y>, <y>, <b>", "vpermd <y>, <y>, <ym>",
             "vpermq <y>, <ym>, <b>", "vperm2i128 <y>, <y>, <ym>, <b>", "vpbroadcastb <y>, <m8>",
             "vpbroadcastw <y>, <x>", "vinserti128 <y>, <y>, <xm>, <b>", "vpshufb <y>, <y>, <ym>",
             "vextracti128 <xm>, <y>, <b>", "vpmaskmovd <y>, <y>, <m256>", "vpmovmskb <d32>, <y>",
             "vpmaskmovq <m256>, <y>, <y>", "vpmovzxbd <y>, <m64>", "vpalignr <y>, <y>, <ym>, <b>"],
    "fma": [f"{op}{kind}" for op in _FMA for kind in
            ("ps <y>, <y>, <ym>", "sd <x>, <x>, <m64>", "pd <x>, <x>, <xm>")],
    "f16c": ["vcvtph2ps <y>, <xm>", "vcvtps2ph <m64>, <x>, <b>"],
    "vaes": ["vaesenc <y>, <y>, <ym>"],
    "gfni": ["gf2p8mulb <x>, <xa>", "vgf2p8affineqb <y>, <y>, <ym>, <b>"],
}  # fmt: skip


def rounding(writer: Writer) -> Group:
    """Load MXCSR with another rounding mode and all exceptions masked, compute, store MXCSR."""
    rng = writer.rng
    value = 0x1F80 | rng.getrandbits(2) << 13 | rng.choice((0, 0x40, 0x8000)) | rng.getrandbits(6)
    place = writer.memory(32)
    prefix = "v" if "avx" in writer.features and rng.random() < 0.5 else ""
    kind = rng.choice(("cvtsd2si <d64>, <x>", "divps <x>, <xa>", "sqrtsd <x>, <x>"))
    return [
        f"mov {place}, {value}",
        f"{prefix}ldmxcsr {place}",
        writer.expand(kind),
        f"{prefix}stmxcsr {writer.memory(32)}",
    ]


def gather(writer: Writer) -> Group:
    """A gather whose indices are small multiples of four."""
    target, scale = writer.rng.choice((6, 12)), writer.rng.choice((1, 4))
    return [
        "pcmpeqd xmm1, xmm1",
        "vpsrld ymm2, ymm2, 24",
        "vpcmpgtd ymm3, ymm4, ymm5",
        f"lea rax, [rip + data + {0x1000 + writer.rng.randrange(64)}]",
        f"vpgatherdd ymm{target}, [rax + ymm2*{scale}], ymm3",
    ]


def vector(writer: Writer) -> Group:
    """One group of any kind above."""
    rng = writer.rng
    kind = rng.randrange(16)
    if kind == 0:
        return rounding(writer)
    if kind == 1 and "avx2" in writer.features:
        return gather(writer)
    tables = [table for name, table in BY_FEATURE.items() if name in writer.features]
    weights = [len(table) for table in tables]
    table = rng.choices(tables, weights)[0]
    return [writer.expand(rng.choice(table))]
