"""run and call: where they start and stop, what they return, and what the cache keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]
BOTH = pytest.mark.parametrize("engine", ["pydbi", "pyqbdi"])


@BOTH
def test_start_outside_the_ranges(run_in_child: Child, engine: str) -> None:
    """run returns False and call (False, ...) if the start is in no range; nothing is executed."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "inc rbx; ret\nend: nop")
        scene.set(rbx=5)
        scene.vm.removeAllInstrumentedRanges()
        assert scene.run() is False
        assert scene.vm.call(scene.base, [])[0] is False
        scene.vm.addInstrumentedRange(scene.base + 1, scene["end"])
        assert scene.run() is False
        assert scene.vm.call(scene.base, [])[0] is False
        assert scene.register("rbx") == 5
        scene.vm.addInstrumentedRange(scene.base, scene["end"])
        assert scene.vm.call(scene.base, [])[0] is True
        assert scene.register("rbx") == 6
        scene.set(rsp=0)
        assert scene.vm.call(scene.base, [])[0] is False
        assert scene.register("rbx") == 6

    run_in_child(child, engine)


@BOTH
def test_start_is_stop(run_in_child: Child, engine: str) -> None:
    """run(a, a) returns True and executes nothing, cached or not."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "inc rbx\nend: nop")
        scene.set(rbx=5)
        for expected in (5, 6):
            assert scene.vm.run(scene.base, scene.base) is True
            assert scene.register("rbx") == expected
            if expected == 5:
                assert scene.run()

    run_in_child(child, engine)


@BOTH
def test_callbacks_at_the_stop(run_in_child: Child, engine: str) -> None:
    """PREINST callbacks registered before are called at the stop address; it is not executed."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "inc rbx\nlast: inc rbx\nend: nop", "last")
        scene.set(rbx=0)
        scene.add("PRE", "before", at="last")
        scene.add("POST", "after", at="last")
        assert scene.vm.run(scene.base, scene["last"])
        assert scene.register("rbx") == 1
        assert scene.log == [("before", "last")]

    run_in_child(child, engine)


@BOTH
def test_stop_anywhere(run_in_child: Child, engine: str) -> None:
    """A run stops before any instruction of a cached block, and goes on from there."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        count = 12
        text = "\n".join(f"l{n}: inc rbx" for n in range(count)) + "\nend: nop"
        scene = Scenario(engine, text, " ".join(f"l{n}" for n in range(count)))
        for _ in range(2):
            for stop in range(count):
                scene.set(rbx=0)
                assert scene.vm.run(scene.base, scene[f"l{stop}"])
                assert scene.register("rbx") == stop
                assert scene.register("rip") == scene[f"l{stop}"]
                assert scene.vm.run(scene[f"l{stop}"], scene["end"])
                assert scene.register("rbx") == count
                assert scene.register("rip") == scene["end"]

    run_in_child(child, engine)


@BOTH
@pytest.mark.parametrize("warm", [False, True])
def test_stop_in_a_loop(run_in_child: Child, engine: str, warm: bool) -> None:
    """A stop inside a loop, or at its head, is noticed at its first arrival there."""

    def child(engine: str, warm: bool) -> None:
        from tests.vm.scenario import Scenario

        text = """
        again: inc rbx
        middle: nop
        call function
        behind: dec rcx
        last: jnz again
        jmp end
        function: inc rdx
        inside: ret
        end: nop"""
        labels = "again middle behind last function inside"
        scene = Scenario(engine, text, labels)
        counts = {"middle": (1, 0, 5), "behind": (1, 1, 5), "last": (1, 1, 4)}
        counts |= {"function": (1, 0, 5), "inside": (1, 1, 5)}
        for place, expected in counts.items():
            scene.set(rbx=0, rcx=5, rdx=0)
            if warm:
                assert scene.run()
                scene.set(rbx=0, rcx=5, rdx=0)
            rsp = scene.register("rsp")
            assert scene.vm.run(scene.base, scene[place])
            assert tuple(scene.register(n) for n in ("rbx", "rdx", "rcx")) == expected
            assert scene.vm.run(scene[place], scene["end"])
            assert tuple(scene.register(n) for n in ("rbx", "rdx", "rcx")) == (5, 5, 0)
            assert scene.register("rsp") == rsp

    run_in_child(child, engine, warm)


@BOTH
def test_call(run_in_child: Child, engine: str) -> None:
    """call passes up to six arguments in registers, others on the stack, and returns rax unsigned.

    The function finds 42 as its return address.
    """

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        text = """
        sum: mov rax, rdi; imul rax, rax, 10; add rax, rsi; imul rax, rax, 10; add rax, rdx
        imul rax, rax, 10; add rax, rcx; imul rax, rax, 10; add rax, r8
        imul rax, rax, 10; add rax, r9; ret
        stacked: mov rax, [rsp + 8]; imul rax, rax, 10; add rax, [rsp + 16]; mov rbx, [rsp]; ret
        minus: mov rax, -1; ret
        lowered: mov rax, rsp; ret
        end: nop"""
        scene = Scenario(engine, text, "sum stacked minus lowered")
        call = scene.vm.call
        assert call(scene["sum"], [1, 2, 3, 4, 5, 6]) == (True, 123456)
        scene.set(r8=0, r9=7)
        assert call(scene["sum"], [1, 2, 3, 4]) == (True, 123407)
        assert call(scene["sum"], (0, 0, 0, 0, 0, (1 << 64) - 1)) == (True, (1 << 64) - 1)
        assert call(scene["stacked"], [0] * 6 + [7, 8]) == (True, 78)
        assert scene.register("rbx") == 42
        assert call(scene["minus"], []) == (True, (1 << 64) - 1)
        for count in (0, 3, 6, 8):
            rsp = scene.register("rsp")
            assert call(scene["lowered"], [0] * count) == (True, rsp - 0x88)

    run_in_child(child, engine)


def test_call_with_many_arguments(run_in_child: Child) -> None:
    """Any number of arguments arrives; rsp is the same afterwards, also after an exception."""

    def child() -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        text = """
        xor eax, eax; lea rdx, [rsp + 8]
        again: add rax, [rdx]; add rdx, 8; dec rdi; jnz again
        place: ret
        end: nop"""
        scene = Scenario("pydbi", text, "place")
        rsp = scene.register("rsp")
        for count in (7, 8, 15, 22, 23, 24, 101):
            values = [pow(3, n, 1 << 40) for n in range(count)]
            arguments = [count - 6, *values[1:6], *values[6:]]
            assert scene.vm.call(scene.base, arguments) == (True, sum(values[6:]))
            assert scene.register("rsp") == rsp

        def fail(*_: object) -> None:
            raise LookupError

        identity = scene.vm.addCodeAddrCB(scene["place"], pydbi.PREINST, fail, None)
        with pytest.raises(LookupError):
            scene.vm.call(scene.base, [1] * 9)
        scene.vm.deleteInstrumentation(identity)
        scene.set(rsp=rsp)
        for _ in range(2000):
            assert scene.vm.call(scene.base, [2, 0, 0, 0, 0, 0, 20, 30]) == (True, 50)
        assert scene.register("rsp") == rsp

    run_in_child(child)


@pytest.mark.parametrize("engine", ["pydbi", "pyqbdi"])
def test_wrong_arguments(run_in_child: Child, engine: str) -> None:
    """What is no address or no argument raises TypeError, before anything happens."""

    def child(engine: str) -> None:
        import pytest

        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "nop; ret\nend: nop")
        vm, base = scene.vm, scene.base
        assert vm.call(base, [1])[0]  # so that the fast way is known
        large = 1 << 64
        cases = [
            (vm.run, ("text", base)), (vm.run, (base, None)), (vm.run, (1.5, base)),
            (vm.run, (-1, base)), (vm.run, (large, base)), (vm.run, (base, large)),
            (vm.run, (base, -1)), (vm.call, (-1, [])), (vm.call, (large, [])),
            (vm.call, (base, [large])), (vm.call, (base, [1.5])), (vm.call, (base, ["text"])),
            (vm.call, (base, [None])), (vm.call, (base, None)), (vm.call, (base, 5)),
            (vm.call, (base, [0] * 7 + [large])), (vm.addInstrumentedRange, (-1, 5)),
            (vm.addInstrumentedRange, (5, large + 1)), (vm.removeInstrumentedRange, (-1, 5)),
            (vm.clearCache, (-1, 2)), (vm.precacheBasicBlock, (-1,)),
            (vm.addCodeAddrCB, (-1, scene.module.PREINST, print, None)),
            (vm.addCodeCB, (0, print, None)),
            (vm.addCodeCB, (scene.module.PREINST, print, None, 1 << 40)),
            (vm.deleteInstrumentation, (-1,)), (vm.addInstrumentedModule, (5,)),
        ]  # fmt: skip
        accepted = []
        for method, arguments in cases:
            try:
                method(*arguments)
            except TypeError:
                continue
            except Exception as error:
                accepted.append(f"{method.__name__}{arguments}: {error!r}")
            else:
                accepted.append(f"{method.__name__}{arguments}")
        assert not accepted
        with pytest.raises(TypeError):
            vm.call()
        assert vm.call(base, [1])[0]

    run_in_child(child, engine)


@BOTH
def test_ranges_decide_what_is_instrumented(run_in_child: Child, engine: str) -> None:
    """Adding and removing ranges changes where callbacks are called, in cached code too."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        text = """
        a: call f
        b: call g
        c: jmp end
        .balign 64
        f: inc rbx; ret
        g: inc rbx; ret
        end: nop"""
        scene = Scenario(engine, text, "a b c f g")
        scene.add("PRE", "x")
        f, g = scene["f"], scene["g"]
        ranges = [
            (None, "abcfg"), (("remove", f, g), "abcg"), (("add", f, f + 3), "abcfg"),
            (("remove", f, g + 8), "abc"), (("add", g, g + 9), "abcg"),
        ]  # fmt: skip
        if engine == "pydbi":  # PyQBDI goes on with all five
            ranges.append((("remove", scene["b"], scene["c"]), "acg"))
        for change, expected in ranges:
            if change:
                kind, low, high = change
                getattr(scene.vm, f"{kind}InstrumentedRange")(low, high)
            scene.log.clear()
            scene.set(rbx=0)
            assert scene.run()
            assert scene.register("rbx") == 2
            found = {place for _, place in scene.log if len(place) == 1}
            assert "".join(sorted(found)) == expected, change

    run_in_child(child, engine)


@BOTH
def test_modules(run_in_child: Child, engine: str) -> None:
    """Modules are instrumented and released by file name, or by an address in them."""

    def child(engine: str) -> None:
        import ctypes

        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "nop\nend: nop")
        vm = scene.vm
        scene.add("PRE", "x")
        libm = ctypes.CDLL("libm.so.6")
        address = ctypes.cast(libm.cbrt, ctypes.c_void_p).value
        assert vm.addInstrumentedModule("no such library") is False
        assert vm.addInstrumentedModuleFromAddr(8) is False
        assert vm.removeInstrumentedModule("no such library") is False
        assert vm.call(address, [])[0] is False
        for add, remove in (
            (lambda: vm.addInstrumentedModule("libm.so.6"),
             lambda: vm.removeInstrumentedModule("libm.so.6")),
            (lambda: vm.addInstrumentedModuleFromAddr(address),
             lambda: vm.removeInstrumentedModuleFromAddr(address)),
        ):  # fmt: skip
            assert add() is True
            scene.log.clear()
            assert vm.call(address, [])[0] is True
            assert scene.log[0] == ("x", f"{address:#x}")
            assert remove() is True
            assert vm.call(address, [])[0] is False

    run_in_child(child, engine)


@BOTH
def test_precache(run_in_child: Child, engine: str) -> None:
    """precacheBasicBlock is True once for each block, and changes no result."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "inc rbx; jmp there\nint3\nthere: inc rbx\nend: nop", "there")
        scene.set(rbx=0)
        assert scene.vm.precacheBasicBlock(scene.base) is True
        assert scene.vm.precacheBasicBlock(scene.base) is False
        assert scene.vm.precacheBasicBlock(scene["there"]) is True
        assert scene.run()
        assert scene.register("rbx") == 2
        scene.vm.clearAllCache()
        assert scene.vm.precacheBasicBlock(scene.base) is True

    run_in_child(child, engine)


@pytest.mark.parametrize("values", [["a"], [1.5], [None], [-1], [1 << 64], "abc", b"abc", 5, [[]]])
def test_calls_with_what_is_no_integer(run_in_child: Child, values: object) -> None:
    """TypeError says so, the first time and later, and the function can be called."""

    def child(values: object) -> None:
        import ctypes

        import pytest

        import pydbi

        libc = ctypes.CDLL(None)
        address = ctypes.cast(libc.labs, ctypes.c_void_p).value
        vm = pydbi.VM()
        pydbi.allocateVirtualStack(vm.getGPRState(), 1 << 16)
        vm.addInstrumentedModuleFromAddr(address)
        for _ in range(2):
            with pytest.raises(TypeError, match="integer"):
                vm.call(address, values)
            assert vm.call(address, [7]) == (True, 7)
        with pytest.raises(TypeError):
            vm.call([address], [7])

    run_in_child(child, values)
