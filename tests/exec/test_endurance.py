"""Long runs: memory does not grow beyond the cache."""

from __future__ import annotations

from collections.abc import Callable

Child = Callable[..., str]


def test_ten_million_blocks(run_in_child: Child) -> None:
    """Ten million executed blocks, returns and indirect jumps among them, take no more memory."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode
        from tests.exec.resident import resident_size

        text = """
        lea rsi, [rip + even]; lea rdi, [rip + odd]
        round: mov rax, rsi; test cl, 1; cmovnz rax, rdi
        call function
        jmp rax
        even: inc r8; jmp next
        odd: inc r9
        next: dec rcx; jnz round
        end: nop
        function: inc r10; ret"""
        code = GuestCode(pydbi, text, "end")

        def run(rounds: int) -> None:
            gpr = code.vm.getGPRState()
            gpr.rcx, gpr.r8, gpr.r9, gpr.r10 = rounds, 0, 0, 0
            code.vm.setGPRState(gpr)
            assert code.vm.run(code.base, code["end"])
            gpr = code.vm.getGPRState()
            assert (gpr.r8, gpr.r9, gpr.r10) == (rounds // 2, rounds // 2, rounds)

        run(1000)
        before = resident_size()
        for _ in range(10):
            run(200_000)  # of at least five blocks each
        assert resident_size() - before < 1 << 20

    run_in_child(child)


def test_callbacks_leave_nothing_behind(run_in_child: Child) -> None:
    """Three hundred thousand callbacks, some of which leave the cache, take no more memory."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode
        from tests.exec.resident import resident_size

        code = GuestCode(pydbi, "again: dec rcx; jnz again\nend: nop", "end")
        count = 0

        def look(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            nonlocal count
            count += 1
            if gpr.rcx % 64 == 0 and count & 1:
                count += 1
                return pydbi.BREAK_TO_VM
            return pydbi.CONTINUE

        code.vm.addCodeCB(pydbi.POSTINST, look, None)

        def run(rounds: int) -> None:
            nonlocal count
            count = 0
            gpr = code.vm.getGPRState()
            gpr.rcx = rounds
            code.vm.setGPRState(gpr)
            assert code.vm.run(code.base, code["end"])
            assert count >= 2 * rounds

        run(10_000)
        before = resident_size()
        for _ in range(15):
            run(10_000)
        assert resident_size() - before < 1 << 20

    run_in_child(child)


def test_hundred_thousand_calls(run_in_child: Child) -> None:
    """100,000 `call`s of a function, with and without a callback, take no more memory."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode
        from tests.exec.resident import resident_size

        code = GuestCode(pydbi, "lea rax, [rdi + rsi]\npush rax\npop rdx\nret")
        calls = 0

        def count(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            nonlocal calls
            calls += 1
            return pydbi.CONTINUE

        def run(rounds: int) -> None:
            rsp = code.vm.getGPRState().rsp
            for number in range(rounds):
                assert code.vm.call(code.base, [number, 7]) == (True, number + 7)
            assert code.vm.getGPRState().rsp == rsp

        run(1000)
        before = resident_size()
        run(50_000)
        identity = code.vm.addCodeAddrCB(code.base, pydbi.PREINST, count, None)
        run(50_000)
        assert calls == 50_000
        assert resident_size() - before < 1 << 20
        code.vm.deleteInstrumentation(identity)

    run_in_child(child)


def test_translating_anew(run_in_child: Child) -> None:
    """Translating thousands of times, with callbacks added and removed, takes no more memory."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode
        from tests.exec.resident import resident_size

        body = "\n".join(f"add eax, {n}\njc target_{n}\ntarget_{n}:" for n in range(60))
        code = GuestCode(pydbi, f"xor eax, eax\n{body}\nend: nop", "end")

        def run(rounds: int) -> None:
            for number in range(rounds):
                callback = lambda *_: pydbi.CONTINUE  # noqa: E731
                code.vm.addCodeCB(pydbi.PREINST, callback, [number])
                assert code.vm.run(code.base, code["end"])
                assert code.vm.getGPRState().rax == sum(range(60))
                code.vm.deleteAllInstrumentations()
                if number % 3 == 0:
                    code.vm.clearAllCache()
                elif number % 3 == 1:
                    code.vm.clearCache(code.base, code.base + 64)

        run(200)
        before = resident_size()
        run(3000)
        assert resident_size() - before < 4 << 20

    run_in_child(child)
