"""Control flow: conditional branches, bounded loops, calls and returns, indirect jumps."""

from __future__ import annotations

from tests.exec.family_integer import CONDITIONS, integer
from tests.exec.snippets import Group, Writer

_PREFIXES = ("", "", "", "{disp32} ")


def _filler(writer: Writer, most: int = 3) -> Group:
    """A few harmless lines that change flags and registers (but not rcx, which counts loops)."""
    lines = []
    for _ in range(writer.rng.randrange(most + 1)):
        lines.append(writer.rng.choice((
            "add eax, 0x1234", "xor edx, eax", "cmp eax, edx", "lea rbx, [rax + rdx]", "inc eax",
            "sbb edx, 3", "mov [rip + data + 4096], rax", "imul eax, edx", "test al, 1",
            "shr ebx, 1", "addsd xmm1, xmm2", "paddd xmm3, xmm3", "nop", "btc edx, 4",
            "push rax; pop rbx", "rol eax, 5", "add byte ptr [rsp - 9], al",
        )))  # fmt: skip
    return lines


def forward(writer: Writer) -> Group:
    """A conditional branch over something, after something that sets the flags."""
    rng = writer.rng
    target = writer.label()
    setter = rng.choice(("cmp eax, edx", "test bl, bl", "add eax, edx", "sub rax, rbx", "bt eax, 3",
                         "comisd xmm0, xmm1", "shl edx, 1"))  # fmt: skip
    skipped = [line for _ in range(rng.randrange(4)) for line in integer(writer)]
    jump = f"{rng.choice(_PREFIXES)}j{rng.choice(CONDITIONS)} {target}"
    return [setter, jump, *skipped, f"{target}:"]


def backward(writer: Writer) -> Group:
    """A loop of a few rounds: by LOOP and kin, by a counter, or by a flag that is sure to come."""
    rng = writer.rng
    head, end = writer.label(), writer.label()
    rounds = rng.randrange(1, 12)
    kind = rng.randrange(6)
    if kind == 0:
        return [f"mov ecx, {rounds}", f"{head}:", *_filler(writer), f"loop {head}"]
    if kind == 1:
        name = rng.choice(("loope", "loopne"))
        return [f"mov ecx, {rounds}", f"{head}:", *_filler(writer), f"{name} {head}"]
    if kind == 2:
        jump = rng.choice(_PREFIXES)
        return [f"mov ecx, {rounds}", f"{head}:", *_filler(writer), "dec rcx", f"{jump}jnz {head}"]
    if kind == 3:
        name = rng.choice(("jrcxz", "jecxz"))
        return [f"mov ecx, {rounds}", f"{head}:", f"{name} {end}", *_filler(writer), "dec ecx",
                f"{rng.choice(_PREFIXES)}jmp {head}", f"{end}:"]  # fmt: skip
    if kind == 4:
        return [f"mov ecx, {rounds}", f"{head}: loop {head}"]
    # The body lies behind the condition, both ways of entering it are taken.
    body = writer.label()
    return [f"mov ecx, {rounds}", f"jmp {head}", f"{body}:", *_filler(writer), f"{head}:",
            "sub ecx, 1", f"jns {body}"]  # fmt: skip


def nested(writer: Writer) -> Group:
    """Two loops, the outer one's counter in memory."""
    outer, inner = writer.label(), writer.label()
    return [
        f"mov dword ptr [rip + data + 1536], {writer.rng.randrange(1, 6)}",
        f"{outer}: mov ecx, {writer.rng.randrange(1, 6)}",
        f"{inner}:",
        *_filler(writer),
        f"loop {inner}",
        "dec dword ptr [rip + data + 1536]",
        f"jne {outer}",
    ]


def call(writer: Writer) -> Group:
    """A call in one of all forms, and a return in one of all forms."""
    rng = writer.rng
    function, start = writer.label(), writer.label()
    slot = f"[rip + data + {0x200 + 8 * rng.randrange(32)}]"
    lines = [f"jmp {start}", f"{function}:", *_filler(writer)]
    freed = rng.choice((0, 0, 8, 16, 24))
    lines += [f"ret {freed}" if freed else rng.choice(("ret", "rep ret", "bnd ret"))]
    lines += [f"{start}:"]
    lines += [f"push {writer.immediate(8)}"] * (freed // 8)
    address = f"lea rax, [rip + {function}]"
    kind = rng.randrange(9)
    if kind == 0:
        lines += [f"call {function}"]
    elif kind == 1:
        register = writer.pick()
        lines += [f"lea {register}, [rip + {function}]", f"call {register}"]
    elif kind == 2:
        lines += [address, f"mov {slot}, rax", f"call {slot}"]
    elif kind == 3:
        displacement = rng.choice((-8, -64, 0, 8))
        lines += [address, f"mov [rsp + {displacement}], rax", f"call [rsp + {displacement}]"]
        lines[-1] = lines[-1].replace("call", rng.choice(("call", "notrack call", "bnd call")))
    elif kind == 4:
        base = rng.choice(list(writer.pointers))
        lines += [address, f"mov [{base} + {writer.index_register}*8 + 16], rax",
                  f"call [{base} + {writer.index_register}*8 + 16]"]  # fmt: skip
    elif kind == 5:  # as the TLS code of shared libraries does it
        lines += [f".byte 0x66, 0x66, 0x48; call {function}"]
    elif kind == 6:  # a call by push and return
        back = writer.label()
        lines += [f"lea rax, [rip + {back}]", "push rax", f"lea rax, [rip + {function}]",
                  "push rax", "ret", f"{back}:"]  # fmt: skip
    elif kind == 7:  # rsp is the register, and the operand
        lines += [address, "push rax", "call [rsp]", "lea rsp, [rsp + 8]"]
    else:  # the same call several times; what RET n frees is given back
        head = writer.label()
        lines += [f"mov ecx, {rng.randrange(1, 5)}", f"{head}: call {function}",
                  f"lea rsp, [rsp - {freed}]", f"loop {head}"]  # fmt: skip
    return lines


def recursion(writer: Writer) -> Group:
    """A recursive function: returns to the same and to different places."""
    rng = writer.rng
    function, start, leaf = writer.label(), writer.label(), writer.label()
    return [
        f"jmp {start}",
        f"{function}: cmp ecx, 2; jb {leaf}",
        "push rcx; dec ecx",
        f"call {function}",
        "pop rcx; push rax; sub ecx, 2",
        f"call {function}",
        "pop rdx; add rax, rdx; ret",
        f"{leaf}: mov eax, ecx; ret",
        f"{start}: mov ecx, {rng.randrange(6)}",
        f"call {function}",
    ]


def position(writer: Writer) -> Group:
    """The return address itself as data: call the next instruction and pop, or walk over bytes."""
    after = writer.label()
    if writer.rng.random() < 0.5:
        return [f"call {after}", f"{after}: pop {writer.pick()}"]
    return [f"call {after}", ".quad 0x1122334455667788", f"{after}: pop rax",
            "add rbx, [rax]", writer.expand("mov <d64>, rax")]  # fmt: skip


def indirect(writer: Writer) -> Group:
    """A jump through a register or memory, or a jump table run through several times."""
    rng = writer.rng
    target = writer.label()
    slot = f"[rip + data + {0x200 + 8 * rng.randrange(32)}]"
    kind = rng.randrange(5)
    trap = "ud2"
    if kind == 0:
        register = writer.pick()
        return [f"lea {register}, [rip + {target}]",
                f"{rng.choice(('jmp', 'notrack jmp', 'bnd jmp'))} {register}", trap,
                f"{target}:"]  # fmt: skip
    if kind == 1:
        return [f"lea rax, [rip + {target}]", f"mov {slot}, rax", f"jmp {slot}", trap, f"{target}:"]
    if kind == 2:
        return [f"lea rax, [rip + {target}]", "push rax", "jmp [rsp]", trap, f"{target}: pop rdx"]
    if kind == 3:
        return [f"lea rax, [rip + {target}]", "push rax", "ret", trap, f"{target}:"]
    return jump_table(writer)


def jump_table(writer: Writer) -> Group:
    """A switch in a loop: a table of offsets in the code, all of its cases reached."""
    table, head, end = writer.label(), writer.label(), writer.label()
    cases = [writer.label() for _ in range(4)]
    lines = ["mov ecx, 7", f"{head}: mov edx, ecx; and edx, 3", f"lea rax, [rip + {table}]",
             "movsxd rdx, dword ptr [rax + rdx*4]", "add rax, rdx", "jmp rax",
             f"{table}: .long {', '.join(f'{case} - {table}' for case in cases)}"]  # fmt: skip
    for case in cases:
        lines += [f"{case}:", *_filler(writer, 2), f"jmp {end}"]
    return [*lines, f"{end}: dec ecx; jns {head}"]


def branches(writer: Writer) -> Group:
    """One group of any kind above."""
    rng = writer.rng
    kinds = (forward, forward, backward, backward, nested, call, call, call, recursion, position,
             indirect, indirect, integer)  # fmt: skip
    return rng.choice(kinds)(writer)
