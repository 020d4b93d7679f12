"""The stack: every form of push and pop, frames, the red zone, flags on the stack, moves of rsp."""

from __future__ import annotations

from tests.exec.snippets import Group, Writer, choose, sized

PUSH_POP = [
    ("push <s64>", ""),
    ("push <s16>", ""),
    ("push <m64>", ""),
    ("push <m16>", ""),
    ("push <i8>", ""),
    ("push <i32>", ""),
    ("pushw <i16>", ""),
    ("push rsp", ""),
    ("push sp", ""),
    ("push fs", ""),
    ("pop <d64>", ""),
    ("pop <d16>", ""),
    ("pop <m64>", ""),
    ("pop <m16>", ""),
    ("push rsp; pop rsp", ""),
    ("push qword ptr [rsp + 8]", ""),
    ("push qword ptr [rsp - 8]", ""),
    ("push qword ptr [rsp + <q64>*8]", ""),
    ("push qword ptr [rip + data + 4096]", ""),
    ("pop qword ptr [rsp]", ""),
    ("pop qword ptr [rsp + 8]", ""),
    ("pop qword ptr [rsp - 32]", ""),
    ("pop qword ptr [rsp + <q64>*2 + 16]", ""),
    ("pop qword ptr [rip + data + 4104]", ""),
    ("pop word ptr [rsp + 6]", ""),
    ("mov <d64>, [rsp]", ""),
    ("mov [rsp - 8], <s64>", ""),
    ("mov [rsp - 128], <s64>", ""),
    ("mov qword ptr [rsp - 120], <i32>", ""),
    ("add qword ptr [rsp - 64], <s64>", ""),
    ("mov <d64>, [rsp - 128]", ""),
    ("xchg [rsp - 16], <d64>", ""),
    ("movups [rsp - 128], xmm3", ""),
    ("mov <d64>, rsp", ""),
    ("lea <d64>, [rsp - 24]", ""),
    ("lea rsp, [rsp + 8]", ""),
    ("lea rsp, [rsp - 24]", ""),
    ("add rsp, 16", ""),
    ("sub rsp, 40", ""),
    ("sub rsp, 3", ""),
    ("and rsp, -16", ""),
    ("inc rsp", ""),
    ("cmp rsp, <s64>", ""),
    ("test spl, <i8>", ""),
    ("enter 24, 0", ""),
    ("enter 0, 0", ""),
    ("enter 16, 1", ""),
]


def set_flags(writer: Writer) -> Group:
    """POPF of chosen status flags, DF and ID; DF is cleared again afterwards."""
    rng = writer.rng
    flags = 0x202 | rng.getrandbits(12) & 0xCD5 | rng.getrandbits(1) << 21
    register = writer.pick()
    lines = [f"push {flags}", "popfq", f"lahf; seto {sized(register, 8)}"]
    if flags & 0x400:
        lines.append("cld")
    return lines


def read_flags(writer: Writer) -> Group:
    """PUSHF into a register."""
    writer.steps_vary = True
    if writer.rng.random() < 0.3:
        return ["pushfw", f"pop {sized(writer.pick(), 16)}"]
    return ["pushfq", f"pop {writer.pick()}"]


def frame(writer: Writer) -> Group:
    """rbp as a frame pointer: ENTER with nesting, LEAVE, addressing through rbp."""
    rng = writer.rng
    kind = rng.randrange(5)
    if kind == 0:
        return ["lea rbp, [rsp + 0x80]", f"enter {rng.randrange(64)}, {rng.randrange(1, 5)}"]
    if kind == 1:
        return [f"lea rbp, [rsp + {rng.randrange(-16, 48)}]", "leave"]
    if kind == 2:
        return ["push rbp", "mov rbp, rsp", "sub rsp, 32", writer.expand("mov [rbp - 8], <s64>"),
                f"add {writer.pick('rbp')}, [rbp + 8]", "leave"]  # fmt: skip
    if kind == 3:
        return [writer.expand("enter 32, 0"), writer.expand("xor [rbp - 16], <s64>"), "leave"]
    return ["lea rbp, [rsp - 8]", writer.expand("mov [rbp], <s64>"), "leave"]


def switch_stack(writer: Writer) -> Group:
    """rsp moves elsewhere and back, the old value kept on the stack or in memory."""
    rng = writer.rng
    place = rng.randrange(0x400, 0x600) & -8
    kind = rng.randrange(4)
    if kind == 0:
        return [f"mov [rip + data + {place}], rsp", f"lea rsp, [rip + data + {place - 64}]",
                writer.expand("push <s64>"), writer.expand("pop <d64>"),
                f"mov rsp, [rip + data + {place}]"]  # fmt: skip
    if kind == 1:
        register = writer.pick()
        return [f"lea {register}, [rip + data + {place}]", f"xchg {register}, rsp",
                f"push {register}", "push rsp", "pop [rip + data + 4096]", "pop rsp"]  # fmt: skip
    if kind == 2:
        return ["lea rax, [rsp + 16]", "push rax", "pop rsp"]
    return ["mov rax, rsp", "push rsp", "push rax", "pop rsp", "lea rsp, [rsp - 8]", "pop rbx"]


def stack(writer: Writer) -> Group:
    """One group of any kind above."""
    kind = writer.rng.randrange(12)
    if kind == 0:
        return set_flags(writer)
    if kind == 1 and writer.rng.random() < 0.3:
        return read_flags(writer)
    if kind == 2:
        return frame(writer)
    if kind == 3:
        return switch_stack(writer)
    template, size = choose(writer.rng, PUSH_POP)
    line = writer.expand(template, size)
    if line.startswith("enter") and line.endswith("1"):
        return ["lea rbp, [rsp + 0x40]", line]
    return [line]
