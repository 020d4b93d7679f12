"""`run` stops where it is told to, and what was translated for another stop does no harm."""

from __future__ import annotations

from collections.abc import Callable

Child = Callable[..., str]


def test_stops_in_every_order(run_in_child: Child) -> None:
    """Runs from each label to each later one, in any order, stop there with the right registers."""

    def child() -> None:
        import random

        import pydbi
        from tests.exec.guest_code import GuestCode

        text = """
        a: mov eax, 1; mov ebx, 2; stc; jmp b
        .skip 40, 0xCC
        b: jc d
        c: nop; nop
        d: inc ecx; inc edx
        e: jmp f
        f: mov r8d, 5
        g: call h; dec r8d; jnz g
        jmp i
        h: inc ecx; ret
        i: nop"""
        labels = "abdefhi"
        code = GuestCode(pydbi, text, *labels)
        counts = dict(zip(labels, (0, 0, 0, 1, 1, 1, 6), strict=True))
        rng = random.Random(1)
        for _ in range(2000):
            first, last = sorted(rng.sample(range(len(labels)), 2))
            start, stop = labels[first], labels[last]
            if start == "h":
                continue  # it would return to nowhere
            gpr = code.vm.getGPRState()
            gpr.rcx, gpr.rdx, gpr.eflags = 0, 0, 1
            code.vm.setGPRState(gpr)
            assert code.vm.run(code[start], code[stop])
            gpr = code.vm.getGPRState()
            assert gpr.rip == code[stop], (start, stop)
            assert gpr.rcx == counts[stop] - (counts[start]), (start, stop)
            assert gpr.rdx == (first <= labels.index("d") < last), (start, stop)

    run_in_child(child)


def test_stop_at_a_dropped_successor(run_in_child: Child) -> None:
    """A block that was placed right behind its predecessor, dropped and linked anew."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        text = """
        a: mov eax, 1; mov ebx, 2; stc; jmp b
        .skip 40, 0xCC
        b: jc d
        c: nop; nop
        d: inc ecx; inc edx
        e: nop"""
        code = GuestCode(pydbi, text, *"abde")
        code.vm.run(code["d"], code["e"])
        for stop in "ebdedebde":
            code.vm.run(code["a"], code[stop])
            assert code.vm.getGPRState().rip == code[stop]

    run_in_child(child)


def test_clearing_piece_by_piece(run_in_child: Child) -> None:
    """`clearCache` of single instructions, between runs, in any order, changes no result."""

    def child() -> None:
        import random

        import pydbi
        from tests.exec.guest_code import GuestCode

        body = "\n".join(
            f"l{n}: add eax, {n}; shr ebx, 1; jc l{(n * 7 + 1) % 24}; jmp l{(n + 1) % 24}"
            for n in range(24)
        )
        text = f"start: xor eax, eax; mov ecx, 30\n{body}\nend: nop"
        # Every way ends: each pass through l5 counts ecx down.
        text = text.replace("l5: ", "l5: dec ecx; js end; ")
        code = GuestCode(pydbi, text, "start", "end")
        size = code["end"] - code["start"]
        rng = random.Random(2)
        results: dict[int, int] = {}
        for _ in range(3000):
            gpr = code.vm.getGPRState()
            seed = rng.randrange(40)
            gpr.rbx = seed * 0x9E3779B1 & 0xFFFFFFFF
            code.vm.setGPRState(gpr)
            assert code.vm.run(code["start"], code["end"])
            result = code.vm.getGPRState().rax
            assert results.setdefault(seed, result) == result
            at = code["start"] + rng.randrange(size)
            code.vm.clearCache(at, at + rng.choice((1, 3, 20)))
        assert len(set(results.values())) > 10

    run_in_child(child)
