"""Integer instructions: arithmetic, logic, flags, shifts, bits, multiplication, exchange."""

from __future__ import annotations

from tests.exec.snippets import Group, Writer, choose, sized

ALL = "8 16 32 64"
WIDE = "16 32 64"
TWO = "32 64"

ARITHMETIC = [
    *((f"{op} <dm>, <s>", ALL) for op in ("add", "or", "adc", "sbb", "and", "sub", "xor")),
    *((f"{op} <d>, <sm>", ALL) for op in ("add", "or", "adc", "sbb", "and", "sub", "xor")),
    *((f"{op} <dm>, <i>", ALL) for op in ("add", "or", "adc", "sbb", "and", "sub", "xor")),
    ("cmp <sm>, <s>", ALL),
    ("cmp <s>, <m>", ALL),
    ("cmp <sm>, <i>", ALL),
    ("cmp <m>, <i>", ALL),
    ("test <sm>, <s>", ALL),
    ("test <sm>, <i>", ALL),
    ("inc <dm>", ALL),
    ("dec <dm>", ALL),
    ("neg <dm>", ALL),
    ("not <dm>", ALL),
    ("mov <d>, <sm>", ALL),
    ("mov <m>, <s>", ALL),
    ("mov <dm>, <i>", ALL),
    ("movabs <d64>, 0x123456789ABCDEF0", ""),
    ("movzx <d>, <sm8>", WIDE),
    ("movsx <d>, <sm8>", WIDE),
    ("movzx <d>, <sm16>", TWO),
    ("movsx <d>, <sm16>", TWO),
    ("movsxd <d64>, <sm32>", ""),
    ("lea <d>, [<s64> + <q64>*4 + 77]", WIDE),
    ("lea <d>, [rip + data + 5]", WIDE),
    ("lea <d>, [<q32> + <s32>]", TWO),
    ("bswap <d>", TWO),
    ("imul <d>, <sm>", WIDE),
    ("imul <d>, <sm>, <i>", WIDE),
    ("mul <sm>", ALL),
    ("imul <sm>", ALL),
    ("cbw", ""),
    ("cwde", ""),
    ("cdqe", ""),
    ("cwd", ""),
    ("cdq", ""),
    ("cqo", ""),
    ("nop <sm>", WIDE),
    ("xlatb_group", ""),
]
CONDITIONS = (
    "o",
    "no",
    "b",
    "ae",
    "e",
    "ne",
    "be",
    "a",
    "s",
    "ns",
    "p",
    "np",
    "l",
    "ge",
    "le",
    "g",
)
FLAGS = [
    *((f"set{cc} <dm8>", "") for cc in CONDITIONS),
    *((f"cmov{cc} <d>, <sm>", WIDE) for cc in CONDITIONS),
    ("lahf", ""),
    ("sahf", ""),
    ("clc", ""),
    ("stc", ""),
    ("cmc", ""),
    ("adc <dm>, <s>", ALL),
    ("sbb <d>, <sm>", ALL),
    ("rcl <dm>, 1", ALL),
    ("rcr <dm>, cl", ALL),
]
SHIFTS = [
    *((f"{op} <dm>, 1", ALL) for op in ("rol", "ror", "rcl", "rcr", "shl", "shr", "sar")),
    *((f"{op} <dm>, cl", ALL) for op in ("rol", "ror", "rcl", "rcr", "shl", "shr", "sar")),
    *((f"{op} <dm>, <b>", ALL) for op in ("rol", "ror", "rcl", "rcr", "shl", "shr", "sar")),
    *((f"{op} <dm>, <s>, cl", WIDE) for op in ("shld", "shrd")),
    *((f"{op} <dm>, <s>, <b>", WIDE) for op in ("shld", "shrd")),
]
BITS = [
    *((f"{op} <dm>, <b>", WIDE) for op in ("btc", "btr", "bts")),
    *((f"{op} <d>, <s>", WIDE) for op in ("btc", "btr", "bts")),
    *((f"{op} <m>, <q>", WIDE) for op in ("bt", "btc", "btr", "bts")),
    ("bt <sm>, <b>", WIDE),
    ("bt <s>, <s>", WIDE),
    ("bsf <d>, <sm>", WIDE),
    ("bsr <d>, <sm>", WIDE),
]
BITS_BY_FEATURE = {
    "popcnt": [("popcnt <d>, <sm>", WIDE)],
    "abm": [("lzcnt <d>, <sm>", WIDE)],
    "movbe": [("movbe <d>, <m>", WIDE), ("movbe <m>, <s>", WIDE)],
    "sse4_2": [("crc32 <d32>, <sm>", "8 16 32"), ("crc32 <d64>, <sm64>", "")],
    "bmi1": [
        ("andn <d>, <s>, <sm>", TWO),
        ("bextr <d>, <sm>, <s>", TWO),
        ("blsi <d>, <sm>", TWO),
        ("blsmsk <d>, <sm>", TWO),
        ("blsr <d>, <sm>", TWO),
        ("tzcnt <d>, <sm>", WIDE),
    ],
    "bmi2": [
        ("bzhi <d>, <sm>, <s>", TWO),
        ("mulx <d>, <d>, <sm>", TWO),
        ("pdep <d>, <s>, <sm>", TWO),
        ("pext <d>, <s>, <sm>", TWO),
        ("rorx <d>, <sm>, <b>", TWO),
        ("sarx <d>, <sm>, <s>", TWO),
        ("shlx <d>, <sm>, <s>", TWO),
        ("shrx <d>, <sm>, <s>", TWO),
    ],
    "adx": [("adcx <d>, <sm>", TWO), ("adox <d>, <sm>", TWO)],
}
EXCHANGE = [
    ("xchg <d>, <d>", ALL),
    ("xchg <m>, <d>", ALL),
    ("xadd <m>, <d>", ALL),
    ("xadd <d>, <d>", ALL),
    ("lock xadd <m>, <d>", ALL),
    ("cmpxchg <m>, <s>", ALL),
    ("cmpxchg <d>, <s>", ALL),
    ("lock cmpxchg <m>, <s>", ALL),
    ("lock cmpxchg8b <m64>", ""),
    ("cmpxchg8b <m64>", ""),
    *((f"lock {op} <m>, <s>", ALL) for op in ("add", "or", "adc", "sbb", "and", "sub", "xor")),
    *((f"lock {op} <m>, <i>", ALL) for op in ("add", "or", "and", "sub", "xor")),
    *((f"lock {op} <m>", ALL) for op in ("inc", "dec", "neg", "not")),
    *((f"lock {op} <m>, <b>", WIDE) for op in ("btc", "btr", "bts")),
    ("mfence", ""),
    ("pause", ""),
]
_HIGH_BYTE = ("add", "adc", "sub", "sbb", "cmp", "and", "or", "xor", "mov", "test")


def division(writer: Writer) -> Group:
    """DIV or IDIV whose quotient always fits."""
    rng = writer.rng
    size = rng.choice((8, 16, 32, 64))
    signed = rng.random() < 0.5
    if rng.random() < 0.4:
        divisor = writer.memory(size)
    else:
        divisor = sized(writer.rng.choice(("rbx", "rcx")), size)
        if divisor in (sized(name, size) for name in (*writer.pointers, writer.index_register)):
            divisor = sized("rcx", size)
    accumulator, high = sized("rax", size), sized("rdx", size)
    lines = [f"or {divisor}, 1"]
    if size == 8:
        lines += ["movzx eax, al"] if not signed else ["and eax, 0x7F"]
    else:
        lines += [f"shr {accumulator}, 1"] if signed else []
        lines += [f"xor {high}, {high}"]
    return [*lines, f"{'idiv' if signed else 'div'} {divisor}"]


def compare_exchange_16(writer: Writer) -> Group:
    """CMPXCHG16B of an aligned operand, sometimes with the value that is there."""
    operand = writer.address(aligned=16)
    lines = [f"lock cmpxchg16b xmmword ptr {operand}"]
    if writer.rng.random() < 0.5:
        high = operand.replace("data +", "data + 8 +")
        lines = [f"mov rax, qword ptr {operand}", f"mov rdx, qword ptr {high}", *lines]
    return lines


def bit_string(writer: Writer) -> Group:
    """BT and kin with a memory operand and a bit offset that leads outside it, to either side."""
    rng = writer.rng
    size = rng.choice((16, 32, 64))
    register = writer.pick()
    return [
        f"mov {register}, {rng.randrange(-2000, 2000)}",
        f"{rng.choice(('bt', 'btc', 'btr', 'bts', 'lock bts'))} {writer.memory(size)}, "
        f"{sized(register, size)}",
    ]


def integer(writer: Writer) -> Group:
    """One group of any kind above."""
    rng = writer.rng
    kind = rng.randrange(20)
    if kind == 0:
        return division(writer)
    if kind == 1:
        return writer.high_byte_group(_HIGH_BYTE)
    if kind == 2:
        return bit_string(writer)
    if kind == 3 and "cx16" in writer.features:
        return compare_exchange_16(writer)
    tables = [ARITHMETIC, ARITHMETIC, FLAGS, SHIFTS, BITS, EXCHANGE]
    tables += [table for name, table in BITS_BY_FEATURE.items() if name in writer.features]
    template, size = choose(rng, rng.choice(tables))
    if template == "xlatb_group" and "rbx" in (*writer.pointers, writer.index_register):
        template = "cmc"
    if template == "xlatb_group":
        return [f"lea rbx, [rip + data + {0x1000 + rng.randrange(256)}]", "xlatb"]
    if ("<dm>" in template and "<s>" in template) or template.startswith(("cmpxchg", "xadd")):
        template = template.replace("<s>", f"<{rng.choice('sd')}>")
    return [writer.expand(template, size)]
