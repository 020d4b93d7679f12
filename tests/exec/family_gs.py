"""Memory through GS: with the guest's own base, in every way that an instruction can get at it."""

from __future__ import annotations

from tests.exec.snippets import Group, Writer

_OPERANDS = [
    "mov rax, qword ptr gs:[@]", "mov dword ptr gs:[@], ebp", "add byte ptr gs:[@], bl",
    "cmp word ptr gs:[@], 1234", "push qword ptr gs:[@]; pop rdx", "push rbp; pop qword ptr gs:[@]",
    "movups xmm3, xmmword ptr gs:[@]", "movups xmmword ptr gs:[@], xmm11",
    "lock xadd qword ptr gs:[@], rdx", "imul edx, dword ptr gs:[@], 77",
    "vaddps ymm3, ymm9, ymmword ptr gs:[@]", "fild word ptr gs:[@]; fistp word ptr gs:[@]",
]  # fmt: skip
_WIDE_OPERANDS = [
    "vpaddd zmm7{k1}, zmm3, zmmword ptr gs:[@ + 64]", "vpaddd zmm7, zmm3, dword ptr gs:[@]{1to16}",
    "vmovdqu64 zmmword ptr gs:[@ + 128]{k1}, zmm29",
]  # fmt: skip
_GATHERS = [
    "vgatherdps ymm3, dword ptr gs:[@ymm1*4 + 8], ymm2",
    "vpgatherdq ymm3, qword ptr gs:[@xmm1*2 - 8], ymm2",
    "vpgatherqd xmm13, dword ptr gs:[@ymm1*4 + 64], xmm2",
    "vgatherqpd xmm3, qword ptr gs:[@xmm1*8], xmm2",
]
_WIDE_GATHERS = [
    "vpgatherdd zmm23{k1}, dword ptr gs:[@zmm1*4 + 8]",
    "vpgatherqq ymm3{k1}, qword ptr gs:[@ymm1*8]",
    "vpscatterdd dword ptr gs:[@zmm1*4 + 4]{k1}, zmm25",
    "vscatterqpd qword ptr gs:[@zmm1*2 - 64]{k1}, zmm5",
]
_QUAD_INDICES = ("rqd", "rqq", "rqps", "rqpd")
_IMPLIED = {
    "sse2": (".byte 0x65; maskmovdqu xmm3, xmm12", "rdi"),
    "avx": (".byte 0x65; vmaskmovdqu xmm13, xmm4", "rdi"),
    "monitorx": ("mov ecx, 0; mov edx, 0; .byte 0x65; monitorx", "rax"),
}

_WORD = (1 << 64) - 1


def _base(offset: int, distance: str) -> list[str]:
    """Set the GS base so that *distance*, a register or number, is *offset* in the data area."""
    return [f"mov rdx, {distance}", f"lea rax, [rip + data + {offset}]", "sub rax, rdx",
            "wrgsbase rax"]  # fmt: skip


def _strings(writer: Writer, offset: int, pointer: int, narrow: bool) -> list[str]:
    rng = writer.rng
    operation = rng.choice(("lods", "lods", "movs", "cmps"))
    repeats = ("", "repe", "repne") if operation == "cmps" else ("", "rep")
    prefix = f".byte 0x65{', 0x67' if narrow else ''}; {rng.choice(repeats)} "
    backward = rng.random() < 0.4
    count = rng.choice((0, 1, 2, rng.randrange(60)))
    if narrow:
        pointer |= rng.getrandbits(32) << 32
        count |= rng.getrandbits(32) << 32
        writer.low_only = True
    lines = [f"mov rsi, {pointer}", f"mov rcx, {count}"]
    lines.append(f"lea rdi, [rip + data + {offset + rng.choice((0, 1, -8, 200))}]")
    lines += ["std"] if backward else []
    lines += [prefix + operation + rng.choice("bwdq")] * rng.randrange(1, 3)
    return lines + (["cld"] if backward else [])


def _operand(writer: Writer, pointer: int, narrow: bool, templates: list[str]) -> list[str]:
    rng = writer.rng
    base, index = rng.sample(("rbx", "rcx", "rsi", "rdi", "r11"), 2)
    displacement, factor, scale = rng.randrange(-300, 300), rng.randrange(20), rng.choice((1, 2, 8))
    value = pointer - displacement - factor * scale & _WORD
    if narrow:
        value = value & 0xFFFFFFFF | rng.getrandbits(32) << 32
        base_name, index_name = (
            name + "d" if name == "r11" else "e" + name[1:] for name in (base, index)
        )
    else:
        base_name, index_name = base, index
    text = f"{base_name} + {index_name}*{scale} + {displacement}"
    lines = [f"mov {base}, {value}", f"mov {index}, {factor}"]
    return [*lines, rng.choice(templates).replace("@", text)]


def _gather(writer: Writer, templates: list[str]) -> list[str]:
    rng = writer.rng
    table, behind = writer.label(), writer.label()
    base = rng.choice(("r11 + ", "rsi + ", ""))
    template = rng.choice(templates)
    wide = template.split(" ")[0].endswith(_QUAD_INDICES)
    directive, count = (".quad", 8) if wide else (".long", 16)
    indices = ", ".join(str(rng.randrange(-60, 60)) for _ in range(count))
    load = "vmovdqu64 zmm1" if "k1" in template else "vmovdqu ymm1"
    return [
        f"jmp {behind}",
        f"{table}: {directive} {indices}",
        f"{behind}: {load}, [rip + {table}]",
        template.replace("@", base),
    ]


def _pop(writer: Writer, offset: int) -> list[str]:
    """To an address that is based on rsp, after it has grown."""
    displacement = writer.rng.randrange(-100, 100)
    value, operand = writer.rng.choice((("rbx", "qword"), ("bx", "word"), ("1234", "qword")))
    if writer.rng.random() < 0.3:
        lines = ["mov ebx, esp", *_base(offset, "rbx")]
        return [*lines, f"push {value}", f"pop {operand} ptr gs:[esp + {displacement}]"]
    return [*_base(offset, "rsp"), f"push {value}", f"pop {operand} ptr gs:[rsp + {displacement}]"]


def through_gs(writer: Writer) -> Group:
    """Set the base, access the data area through GS, and set the base to 0 again."""
    rng, features = writer.rng, writer.features
    if "fsgsbase" not in features:
        return ["mov ax, gs"]
    offset = 0x1000 + rng.randrange(-256, 256)
    narrow = rng.random() < 0.3
    pointer = (
        rng.getrandbits(31)
        if narrow
        else rng.choice((5, rng.getrandbits(46), -rng.getrandbits(30) & _WORD))
    )
    kind = rng.randrange(7)
    wide = "avx512vl" in features
    lines = _base(offset, str(pointer))
    if kind < 2:
        lines += _strings(writer, offset, pointer, narrow)
    elif kind == 2:
        low = rng.getrandbits(8)
        lines += [f"mov rbx, {pointer - low & _WORD}", f"mov eax, {0x5500 | low}",
                  "xlatb gs:[rbx]"]  # fmt: skip
        if narrow:
            lines[-1] = ".byte 0x65, 0x67; xlatb"
    elif kind == 3:
        templates = _OPERANDS[:-2] if "avx" not in features else _OPERANDS
        lines += _operand(writer, pointer, narrow, templates + (_WIDE_OPERANDS if wide else []))
    elif kind == 4 and "avx2" in features:
        lines += [f"mov {name}, {pointer}" for name in ("r11", "rsi")]
        gather = _gather(writer, _GATHERS + (_WIDE_GATHERS if wide else []))
        if "gs:[r11" not in gather[-1] and "gs:[rsi" not in gather[-1]:
            lines = _base(offset, "0")
        lines += gather
    elif kind == 5:
        lines = _pop(writer, offset)
    else:
        text, register = rng.choice([form for name, form in _IMPLIED.items() if name in features])
        lines += [f"mov {register}, {pointer | (rng.getrandbits(32) << 32 if narrow else 0)}"]
        lines += [text.replace("0x65", "0x65, 0x67") if narrow else text]
        if rng.random() < 0.3:  # an absolute address
            lines += [f".byte 0x65, 0x48, {rng.choice((0xA1, 0xA3))}; .quad {pointer}"]
    return [*lines, "mov eax, 0", "wrgsbase rax"]
