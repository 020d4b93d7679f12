"""AVX-512: all 32 registers, opmasks, broadcasts, embedded rounding, compressed displacements."""

from __future__ import annotations

from tests.exec.snippets import Group, Writer

_FLOAT = ("vaddps", "vsubps", "vmulps", "vdivps", "vminps", "vmaxps", "vfmadd213ps", "vfnmsub231ps",
          "vunpckhps", "vandps", "vscalefps")  # fmt: skip
_DOUBLE = tuple(name.replace("ps", "pd") for name in _FLOAT)
_INTEGER_D = ("vpaddd", "vpsubd", "vpmulld", "vpandd", "vpxord", "vpminud", "vpmaxsd", "vpsllvd",
              "vprorvd", "vpermd")  # fmt: skip
_INTEGER_Q = ("vpaddq", "vporq", "vpandnq", "vpmaxuq", "vpsravq", "vpermq", "vpmuludq")
_INTEGER_BW = ("vpaddb", "vpsubw", "vpavgb", "vpmullw", "vpmaxsb", "vpshufb", "vpsubusw", "vpermw")

F = [
    *(f"{op} <Z><mk>, <Z>, <Zm>" for op in (*_FLOAT, *_DOUBLE, *_INTEGER_D, *_INTEGER_Q)
      if op not in ("vandps", "vandpd")),
    *(f"{op} <Z><mk>, <Z>, <m32>{{1to16}}" for op in ("vaddps", "vmulps", "vpaddd", "vpxord")),
    *(f"{op} <Z><mk>, <Z>, <m64>{{1to8}}" for op in ("vdivpd", "vpandq", "vpaddq")),
    *(f"{op} <Z><mk>, <Z>, <Z>, {{{mode}-sae}}" for op in ("vaddps", "vdivpd", "vmulps")
      for mode in ("rn", "rd", "ru", "rz")),
    "vaddss <X><mk>, <X>, <m32>", "vmulsd <X><mk>, <X>, <m64>", "vsqrtpd <Z><mk>, <Zm>",
    "vmovups <Z><mk>, <Zm>", "vmovups <m512><mw>, <Z>", "vmovdqu32 <Z><mk>, <m512>",
    "vmovdqu64 <m512><mw>, <Z>", "vmovaps <Z>, <a512>", "vmovdqa64 <a512>, <Z>",
    "vmovss <m32><mw>, <X>", "vmovsd <X>, <m64>", "vmovd <X>, <sm32>", "vmovq <dm64>, <X>",
    "vbroadcastss <Z><mk>, <m32>", "vbroadcastsd <Z>, <X>", "vpbroadcastd <Z><mk>, <s32>",
    "vpbroadcastq <Z>, <s64>", "vbroadcasti32x4 <Z><mk>, <m128>", "vbroadcastf64x4 <Z>, <m256>",
    "vinserti64x4 <Z>, <Z>, <Ym>, <b>", "vextracti32x4 <Xm>, <Z>, <b>",
    "vshuff64x2 <Z>, <Z>, <Zm>, <b>",
    "vpermi2d <Z><mk>, <Z>, <Zm>", "vpermt2pd <Z>, <Z>, <Zm>", "vpermilps <Z>, <Zm>, <b>",
    "valignd <Z><mk>, <Z>, <Zm>, <b>", "vpternlogd <Z><mk>, <Z>, <Zm>, <b>",
    "vpternlogq <Z>, <Z>, <m64>{1to8}, <b>", "vpslld <Z>, <Zm>, <b>", "vprolq <Z><mk>, <Zm>, <b>",
    "vcompressps <m512><mw>, <Z>", "vexpandpd <Z><mk>, <m512>", "vpmovqb <X><mk>, <Z>",
    "vpmovdw <m256><mw>, <Z>", "vpmovzxbd <Z>, <m128>", "vpmovsxdq <Z><mk>, <Ym>",
    "vcvtps2pd <Z><mk>, <Ym>", "vcvtdq2ps <Z>, <Zm>", "vcvttpd2udq <Y>, <Z>",
    "vcvtusi2sd <X>, <X>, <s64>",
    "vcvtsd2usi <d64>, <X>", "vgetexpps <Z>, <Zm>", "vgetmantpd <Z>, <Zm>, 4",
    "vrndscaleps <Z>, <Zm>, <b>",
    "vrcp14ps <Z><mk>, <Zm>", "vfixupimmpd <Z><mk>, <Z>, <Zm>, <b>", "vblendmps <Z>{k2}, <Z>, <Zm>",
    "vcmpps <k>{k3}, <Z>, <Zm>, <b5>", "vcmpsd <k>, <X>, <m64>, 5", "vpcmpd <k>, <Z>, <Zm>, 6",
    "vpcmpuq <k>{k1}, <Z>, <m64>{1to8}, 1", "vptestmd <k>, <Z>, <Zm>", "vpcmpeqd <k>, <Z>, <Zm>",
    "vucomiss <X>, <m32>",
    "kmovw <k>, <s32>", "kmovw <d32>, <k>", "kmovw <k>, <m16>", "kmovw <m16>, <k>",
    "kandw <k>, <k>, <k>", "korw <k>, <k>, <k>", "kxorw <k>, <k>, <k>", "kxnorw <k>, <k>, <k>",
    "knotw <k>, <k>", "kshiftlw <k>, <k>, <b>", "kunpckbw <k>, <k>, <k>", "kortestw <k>, <k>",
]  # fmt: skip
BY_FEATURE = {
    "avx512f": F,
    "avx512bw": [*(f"{op} <Z><mk>, <Z>, <Zm>" for op in _INTEGER_BW),
                 "vmovdqu8 <Z><mk>, <m512>", "vmovdqu16 <m512><mw>, <Z>", "vpmovm2b <Z>, <k>",
                 "vpcmpub <k>{k2}, <Z>, <Zm>, 2", "vptestnmw <k>, <Z>, <Zm>",
                 "vpsrldq <Z>, <Zm>, <b>",
                 "kmovq <k>, <s64>", "kmovq <d64>, <k>", "kmovq <k>, <m64>", "kmovq <m64>, <k>",
                 "kmovd <m32>, <k>", "kaddq <k>, <k>, <k>", "kortestq <k>, <k>", "ktestd <k>, <k>",
                 "vpbroadcastb <Z><mk>, <s32>", "vdbpsadbw <Z>, <Z>, <Zm>, <b>"],
    "avx512dq": ["vpmullq <Z><mk>, <Z>, <Zm>", "vandps <Z>, <Z>, <Zm>", "vcvtqq2pd <Z>, <Zm>",
                 "vrangepd <Z>, <Z>, <Zm>, <b4>", "kmovb <k>, <m8>", "kandnb <k>, <k>, <k>",
                 "vpmovd2m <k>, <Z>", "vfpclassps <k>, <Zm>, <b>",
                 "vextractf64x2 <m128><mw>, <Z>, <b>",
                 "vreduceps <Z>, <Zm>, <b>"],
    "avx512vl": ["vaddps <Y><mk>, <Y>, <Ym>", "vpaddd <X><mk>, <X>, <Xm>",
                 "vmulpd <Y><mk>, <Y>, <m64>{1to4}", "vmovdqu64 <X><mk>, <Xm>",
                 "vmovups <m256><mw>, <Y>", "vpternlogd <X>, <X>, <m32>{1to4}, <b>",
                 "vpermt2d <Y><mk>, <Y>, <Ym>", "vpcmpeqb <k>, <Y>, <Ym>", "vprold <Y>, <Ym>, <b>"],
    "avx512cd": ["vpconflictd <Z><mk>, <Zm>", "vplzcntq <Z>, <m64>{1to8}"],
    "avx512vbmi": ["vpermb <Z><mk>, <Z>, <Zm>", "vpermi2b <Z>, <Z>, <Zm>"],
    "avx512_vbmi2": ["vpcompressb <Z><mk>, <Z>", "vpshldvd <Z>, <Z>, <Zm>"],
    "avx512_vnni": ["vpdpbusd <Z><mk>, <Z>, <Zm>"],
    "avx512_bitalg": ["vpopcntb <Z><mk>, <Zm>"],
    "avx512_vpopcntdq": ["vpopcntq <Z><mk>, <m64>{1to8}"],
    "avx512ifma": ["vpmadd52luq <Z>, <Z>, <Zm>"],
}  # fmt: skip


def gather_and_scatter(writer: Writer) -> Group:
    """A masked gather, and a scatter to distinct places."""
    rng = writer.rng
    return [
        "vpsrld zmm17, zmm17, 25",
        f"lea rax, [rip + data + {0x1000 + rng.randrange(64)}]",
        f"mov ecx, {rng.getrandbits(16)}",
        "kmovw k2, ecx",
        f"vpgatherdd zmm{rng.choice((3, 20))}{{k2}}, [rax + zmm17*4]",
        "kmovw k3, ecx",
        f"vpscatterdd [rax + zmm17*8]{{k3}}, zmm{rng.choice((4, 25))}",
    ]


def avx512(writer: Writer) -> Group:
    """One group of any kind above."""
    rng = writer.rng
    if rng.random() < 0.06:
        return gather_and_scatter(writer)
    tables = [table for name, table in BY_FEATURE.items() if name in writer.features]
    table = rng.choices(tables, [len(table) for table in tables])[0]
    template = rng.choice(table)
    # Immediates of five or four bits.
    template = template.replace("<b5>", str(rng.randrange(32))).replace(
        "<b4>", str(rng.randrange(16))
    )
    line = writer.expand(template)
    if "{1to" not in line and rng.random() < 0.05:
        return ["vzeroupper", line]
    return [line]
