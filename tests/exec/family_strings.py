"""String instructions: every size, with and without REP, in both directions."""

from __future__ import annotations

from tests.exec.snippets import Group, Writer

_SIZES = "bwdq"


def _name(operation: str, size: str) -> str:
    return operation + size


def _pointers(writer: Writer) -> Group:
    """rsi and rdi at the middle of the data area, near enough to overlap at times."""
    rng = writer.rng
    source = 0x1000 + rng.randrange(-256, 256)
    target = source + rng.choice((0, 1, 8, -1, -8, rng.randrange(-300, 300)))
    return [f"lea rsi, [rip + data + {source}]", f"lea rdi, [rip + data + {target}]"]


def strings(writer: Writer) -> Group:
    """Set up rsi, rdi, rcx and DF, and run one or more string instructions."""
    rng = writer.rng
    size = rng.choice(_SIZES)
    count = rng.choice((0, 1, 2, rng.randrange(60)))
    backward = rng.random() < 0.4
    lines = _pointers(writer)
    if rng.random() < 0.3:  # equal memory, so that REPE goes far
        lines += ["mov ecx, 40", "rep movsb", *_pointers(writer)]
    lines += ["std"] if backward else []
    lines.append(f"mov ecx, {count}")
    for _ in range(rng.randrange(1, 3)):
        operation = rng.choice(("movs", "stos", "lods", "scas", "cmps"))
        if operation in ("scas", "cmps"):
            prefix = rng.choice(("", "repe ", "repne "))
        else:
            prefix = rng.choice(("", "rep ", "rep "))
        lines.append(prefix + _name(operation, size))
    if rng.random() < 0.1:
        # 67h: the count is ecx, the pointers are esi and edi.
        writer.low_only = True
        lines.append(f".byte 0x67; rep {_name(rng.choice(('movs', 'stos')), size)}")
    if rng.random() < 0.2:
        lines.append(rng.choice(("setb bl", "lahf", "cmovne rax, rsi")))
    if backward:
        lines.append("cld")
    return lines
