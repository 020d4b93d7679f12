"""Guest code of every kind of branch gives under instrumentation what it gives natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import BASE, Guest, either, map_at

Make = Callable[..., Guest]

INSTRUMENTED = pytest.mark.parametrize("callbacks", [False, True], ids=["bare", "callbacks"])

CONDITIONS = {
    # condition: does it hold after cmp of 1 with 2, of 2 with 1, of -1 with 1, of 5 with 5
    "e": "0001", "ne": "1110", "b": "1000", "ae": "0111", "be": "1001", "a": "0110",
    "l": "1010", "ge": "0101", "le": "1011", "g": "0100", "s": "1010", "ns": "0101",
    "o": "0000", "no": "1111", "p": "1001", "np": "0110",
}  # fmt: skip
COMPARED = [(1, 2), (2, 1), ((1 << 64) - 1, 1), (5, 5)]


@pytest.mark.parametrize("condition", CONDITIONS)
@INSTRUMENTED
def test_conditional_branches(guest: Make, condition: str, callbacks: bool) -> None:
    """Each condition takes its branch if it holds, in short and long form."""
    g = guest(f"""
        cmp rdi, rsi; mov eax, 0; j{condition} taken
        jmp next\ntaken: mov eax, 1
        next: cmp rdi, rsi; j{condition} distant
        ret\n.zero 200\ndistant: lea eax, [rax + 2]; ret""")
    if callbacks:
        g.on("PRE", "x")
        g.on("POST", "y")
    for (first, second), holds in zip(COMPARED, CONDITIONS[condition], strict=True):
        g.set(rsp=g.stack_top)
        assert g.vm.call(g.base, [first, second]) == (True, 3 * int(holds))


LOOPS = {
    # the code: rax afterwards, from rcx = 5
    "loop": ("again: inc rax; loop again", 5),
    "loope": ("again: inc rax; cmp rax, rax; loope again", 5),
    "loopne": ("again: inc rax; cmp rax, 3; loopne again", 3),
    "jrcxz": ("again: inc rax; dec rcx; jrcxz out; jmp again\nout: nop", 5),
    "jecxz": ("again: inc rax; dec rcx; jecxz out; jmp again\nout: nop", 5),
    "dec": ("again: inc rax; dec rcx; jnz again", 5),
    "nested": ("""
        outer: mov rdx, rcx
        inner: inc rax; dec rdx; jnz inner
        dec rcx; jnz outer""", 15),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
@INSTRUMENTED
def test_loops(guest: Make, name: str, callbacks: bool) -> None:
    """Loops run as often as they should."""
    code, expected = LOOPS[name]
    g = guest(code)
    if callbacks:
        g.on("PRE", "x")
        g.on("POST", "y")
    g.set(rax=0, rcx=5)
    assert g.run() is True
    assert g.get("rax") == expected


INDIRECT = {
    "register": "lea rax, [rip + there]; jmp rax",
    "extended register": "lea r11, [rip + there]; jmp r11",
    "memory": "lea rax, [rip + there]; mov [rip + data], rax; jmp [rip + data]",
    "stack": "lea rax, [rip + there]; push rax; mov rcx, rsp; lea rsp, [rsp + 8]; jmp [rcx]",
    "table": """
        lea rax, [rip + there]; lea rcx, [rip + data]; mov [rcx + 24], rax
        mov edx, 3; jmp [rcx + rdx*8]""",
    "return": "lea rax, [rip + there]; push rax; ret",
    "return and pop": "lea rax, [rip + there]; push 1; push 2; push rax; ret 16",
    "call of a register": "lea rax, [rip + there]; call rax; int3",
    "call of memory": "lea rax, [rip + there]; mov [rip + data], rax; call [rip + data]; int3",
    "call of rsp": "lea rax, [rip + there]; push rax; call [rsp]; int3",
}


@pytest.mark.parametrize("name", INDIRECT)
@INSTRUMENTED
def test_indirect_branches(guest: Make, name: str, callbacks: bool) -> None:
    """Targets in registers and memory are reached; flags and registers stay."""
    g = guest(f"stc\n{INDIRECT[name]}\nint3\nthere: setc bl; lea r15, [rip + end]")
    if callbacks:
        g.on("PRE", "x")
    g.set(rbx=0, eflags=0x202, r14=77)
    assert g.run() is True
    assert (g.get("rbx"), g.get("r14")) == (1, 77)
    if "call" in name:
        pushed = g.qbdi.readRword(g.get("rsp"))
        assert g.qbdi.readMemory(pushed, 1) == b"\xcc"  # the int3 behind the call
    elif "pop" not in name:
        assert g.get("rsp") == g.stack_top


def test_targets_that_change(guest: Make) -> None:
    """One indirect branch, many targets."""
    cases = "\n".join(f"case{n}: mov eax, {n * n}; jmp done\n.balign 16" for n in range(16))
    g = guest(f"""
        lea rcx, [rip + case0]; shl rdi, 4; add rcx, rdi; jmp rcx
        .balign 16\n{cases}\ndone: ret""")
    for n in [*range(16), *range(15, -1, -1)]:
        g.set(rsp=g.stack_top)
        assert g.vm.call(g.base, [n]) == (True, n * n)


def test_return_address_is_the_guests(guest: Make) -> None:
    """What call pushes is the address behind it in the guest's own code."""
    g = guest("call f\nback: jmp end\nf: mov rax, [rsp]; ret")
    assert g.run()
    assert g.get("rax") == g["back"]


def test_position_of_the_code(guest: Make) -> None:
    """Addresses relative to rip are those of the guest's own code."""
    g = guest("lea rax, [rip]\nhere: call next\nnext: pop rbx")
    assert g.run()
    assert (g.get("rax"), g.get("rbx")) == (g["here"], g["next"])


def test_a_jump_into_an_instruction(guest: Make) -> None:
    """The same bytes run as two different sequences of instructions."""
    g = guest("""
        xor eax, eax
        whole: .byte 0x48, 0xb8                  # mov rax, imm64: the six bytes at inside, and two
        inside: inc rbx; jmp last; .zero 3
        last: inc rcx""")
    assert g["last"] - g["inside"] == 8
    g.set(rbx=0, rcx=0)
    assert g.run() is True
    assert (g.get("rbx"), g.get("rcx")) == (0, 1)
    assert g.run("inside", "end") is True
    assert (g.get("rbx"), g.get("rcx")) == (1, 2)


def test_deep_recursion(guest: Make) -> None:
    """A thousand calls deep, and back."""
    g = guest("f: inc rax; dec rdi; jz last; call f\nlast: inc rbx; ret")
    g.set(rax=0, rbx=0)
    assert g.vm.call(g.base, [1000]) == (True, 1000)
    assert g.get("rbx") == 1000


def test_returns_that_match_no_call(guest: Make) -> None:
    """A function that returns to its caller's caller."""
    g = guest("""
        call f
        int3
        back: jmp end
        f: call deeper
        int3
        deeper: add rsp, 8; lea rax, [rip + back]; mov [rsp], rax; ret""")
    assert g.run() is True
    assert g.get("rsp") == g.stack_top


def test_a_very_long_block(guest: Make) -> None:
    """Three thousand instructions without a branch."""
    g = guest("inc rax\n" * 3000)
    g.set(rax=0)
    assert g.run() is True
    assert g.get("rax") == 3000
    assert g.vm.run(g.base + 3 * 1500, g["end"]) is True
    assert g.get("rax") == 4500


def test_code_in_several_places(guest: Make, qbdi: Any) -> None:
    """Jumps between regions that are gigabytes apart."""
    g = guest("inc rax; mov rcx, [rip + data]; jmp rcx")
    other = guest("inc rax; mov rcx, [rip + data]; jmp rcx", at=BASE + (8 << 30), vm=g.vm)
    g.write(0, other.base.to_bytes(8, "little"))
    other.write(0, g["end"].to_bytes(8, "little"))
    g.set(rax=0)
    assert g.run() is True
    assert g.get("rax") == 2


@pytest.mark.parametrize("address", [0x10000, 0x40000000, 0x7FFF0000, 0x100000000 - 0x8000])
def test_code_at_low_addresses(guest: Make, address: int) -> None:
    """Code may lie anywhere, also where 32-bit displacements do not reach Python's memory."""
    g = guest("inc rax; call f; jmp end\nf: mov rbx, [rip + data]; ret", at=address)
    g.write(0, (12).to_bytes(8, "little"))
    g.set(rax=0)
    assert g.run() is True
    assert (g.get("rax"), g.get("rbx")) == (1, 12)


def test_a_block_across_pages(guest: Make, qbdi: Any) -> None:
    """An instruction may lie on two pages."""
    start = BASE + 0x200000 - 0x1000
    map_at(start, 0x2000)
    code = b"\x48\xb8" + bytes(range(1, 9)) + b"\xc3"  # mov rax, imm64; ret
    qbdi.writeMemory(start + 0xFFB, code)
    g = guest("nop")
    g.vm.addInstrumentedRange(start, start + 0x2000)
    assert g.vm.call(start + 0xFFB, []) == (True, 0x0807060504030201)


def test_code_that_changes_between_runs(guest: Make, qbdi: Any) -> None:
    """After clearCache changed code is read anew; what runs without is not stated."""
    g = guest("mov eax, 1; ret")
    assert g.vm.call(g.base, []) == (True, 1)
    qbdi.writeMemory(g.base + 1, b"\x02")
    g.vm.clearCache(g.base, g["end"])
    assert g.vm.call(g.base, []) == (True, 2)
    qbdi.writeMemory(g.base + 1, b"\x03")
    g.vm.clearAllCache()
    assert g.vm.call(g.base, []) == (True, 3)


STRINGS = {
    "rep movsb": (b"abcdefgh", 8), "rep movsq": (b"abcdefgh", 1), "rep stosb": (b"aaaaaaaa", 8),
    "repe cmpsb": (bytes(8), 8), "repne scasb": (bytes(8), 8),
}  # fmt: skip


@pytest.mark.parametrize("name", STRINGS)
@INSTRUMENTED
def test_string_instructions(guest: Make, name: str, callbacks: bool) -> None:
    """REP counts down rcx, and stops early where the prefix says so."""
    expected, count = STRINGS[name]
    g = guest(f"lea rsi, [rip + data]; lea rdi, [rip + data + 64]; mov al, 97\n{name}")
    if callbacks:
        g.on("PRE", "x")
        g.on("POST", "y")
    g.write(0, b"abcdefgh")
    g.set(rcx=count)
    assert g.run() is True
    assert g.read(64, 8) == expected
    early = {"repe cmpsb": count - 1}.get(name, 0)
    assert g.get("rcx") == early


def test_library_callback_from_native_code(guest: Make, qbdi: Any) -> None:
    """qsort, native, calls an instrumented comparator: it computes right; pydbi also sees it."""
    import ctypes

    address = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value
    assert address
    g = guest("""
        lea rdi, [rip + data + 8]; mov esi, 5; mov edx, 1; lea rcx, [rip + compare]
        call [rip + data]
        jmp end
        .balign 64
        compare: movzx eax, byte ptr [rdi]; movzx ecx, byte ptr [rsi]; sub eax, ecx; ret""")
    g.write(0, address.to_bytes(8, "little") + b"\x05\x01\x04\x02\x03")
    g.set(rsp=g.stack_top)
    g.on("PRE", "x", at="compare")
    assert g.run() is True
    assert g.read(8, 5) == b"\x01\x02\x03\x04\x05"
    seen = either(qbdi, pyqbdi=False, right=True, reason="it runs uninstrumented")
    assert bool(g.log) is seen
