"""Instruction callbacks: what may be one, what it may do, raise and return, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]
BOTH = pytest.mark.parametrize("engine", ["pydbi", "pyqbdi"])


@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_wrong_return_values(run_in_child: Child, position: str) -> None:
    """What is no VMAction raises a TypeError that names it; the guest can go on."""

    def child(position: str) -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        scene = Scenario("pydbi", "mov eax, 1\nat: add eax, 1\nnext: nop\nend: nop", "at next")
        where = getattr(pydbi, position + "INST")
        for wrong in (None, 0, 1, True, "CONTINUE", 1.5, object(), [], pydbi.PREINST, int, b""):
            identity = scene.vm.addCodeAddrCB(scene["at"], where, lambda *_, w=wrong: w, None)
            with pytest.raises(TypeError, match="VMAction") as caught:
                scene.run()
            assert repr(wrong) in str(caught.value)
            assert scene.register("rax") == (1 if position == "PRE" else 2)
            rip = scene.register("rip")
            assert scene.where(rip) == ("at" if position == "PRE" else "next")
            scene.vm.deleteInstrumentation(identity)
            assert scene.vm.run(rip, scene["end"])
            assert scene.register("rax") == 2

    run_in_child(child, position)


@pytest.mark.parametrize("position", ["PRE", "POST"])
@pytest.mark.parametrize("entry", ["run", "call"])
def test_exceptions(run_in_child: Child, position: str, entry: str) -> None:
    """Any exception comes out as the same object with its traceback; the guest can go on."""

    def child(position: str, entry: str) -> None:
        import traceback

        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        class Own(BaseException):
            pass

        text = "mov eax, 1; push rbx\nat: add eax, 1\nnext: pop rbx\nret\nend: nop"
        scene = Scenario("pydbi", text, "at next")
        kinds = (
            ValueError("v"), KeyError(1), SystemExit(3), KeyboardInterrupt(), StopIteration(4),
            GeneratorExit(), MemoryError(), RecursionError(), Own("x"), OSError(2, "gone"),
        )  # fmt: skip
        rsp = scene.gpr.rsp
        for error in kinds:

            def fail(*_: object, error: BaseException = error) -> None:
                raise error

            where = getattr(pydbi, position + "INST")
            identity = scene.vm.addCodeAddrCB(scene["at"], where, fail, None)
            start = scene.run if entry == "run" else lambda: scene.vm.call(scene.base, [])
            with pytest.raises(BaseException) as caught:  # noqa: PT011
                start()
            assert caught.value is error
            frames = traceback.extract_tb(error.__traceback__)
            assert frames[-1].name == "fail"
            assert "child" in [frame.name for frame in frames]
            rip = scene.register("rip")
            assert scene.where(rip) == ("at" if position == "PRE" else "next")
            assert scene.register("rax") == (1 if position == "PRE" else 2)
            scene.vm.deleteInstrumentation(identity)
            stop = scene["next"] if position == "PRE" else rip
            assert scene.vm.run(rip, stop)
            assert scene.register("rax") == 2
            scene.set(rsp=rsp)
        assert scene.vm.call(scene.base, []) == (True, 2)
        assert scene.register("rsp") == rsp

    run_in_child(child, position, entry)


def test_exception_after_branches(run_in_child: Child) -> None:
    """An exception after a jump, call or return leaves the guest at the target."""

    def child() -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        text = """
        jump: jmp calls
        int3
        calls: call function
        behind: jmp end
        function: inc rax
        return: ret
        end: nop"""
        scene = Scenario("pydbi", text, "jump calls function behind return")
        targets = {"jump": "calls", "calls": "function", "return": "behind"}

        def fail(*_: object) -> None:
            raise LookupError

        identities = [
            scene.vm.addCodeAddrCB(scene[place], pydbi.POSTINST, fail, None) for place in targets
        ]
        scene.set(rax=0)
        address = scene.base
        for target in targets.values():
            with pytest.raises(LookupError):
                scene.vm.run(address, scene["end"])
            address = scene.register("rip")
            assert scene.where(address) == target
        assert scene.vm.run(address, scene["end"])
        assert scene.register("rax") == 1
        assert len(set(identities)) == 3

    run_in_child(child)


def test_recursion_in_a_callback(run_in_child: Child) -> None:
    """A callback that recurses without end raises RecursionError, and nothing is broken."""

    def child() -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        def deep(*arguments: object) -> object:
            return deep(*arguments)

        scene = Scenario("pydbi", "at: inc rax\nend: nop", "at")
        identity = scene.vm.addCodeCB(pydbi.PREINST, deep, None)
        for _ in range(3):
            with pytest.raises(RecursionError):
                scene.run()
        scene.vm.deleteInstrumentation(identity)
        scene.set(rax=0)
        assert scene.run()
        assert scene.register("rax") == 1

    run_in_child(child)


def test_callables_of_all_kinds(run_in_child: Child) -> None:
    """Functions, methods, partial objects, instances, classes and C functions can be callbacks."""

    def child() -> None:
        import ctypes
        import functools

        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        scene = Scenario("pydbi", "at: inc rax\nend: nop", "at")
        calls = []

        def function(*arguments: object) -> pydbi.VMAction:
            calls.append(arguments[-1])
            return pydbi.CONTINUE

        def four(vm: object, gpr: object, fpr: object, data: object = None) -> pydbi.VMAction:
            return function(data)

        class Callbacks:
            def method(self, vm: object, gpr: object, fpr: object, data: object) -> object:
                return function(data)

            @classmethod
            def of_class(cls, vm: object, gpr: object, fpr: object, data: object) -> object:
                return function(data)

            @staticmethod
            def static(vm: object, gpr: object, fpr: object, data: object) -> object:
                return function(data)

            def __call__(self, vm: object, gpr: object, fpr: object, data: object) -> object:
                return function(data)

        class Made(int):
            def __new__(cls, *arguments: object) -> object:
                return function(*arguments)

        prototype = ctypes.PYFUNCTYPE(ctypes.py_object, *[ctypes.py_object] * 4)
        kinds = [
            function, four, lambda *a: function(*a), Callbacks().method, Callbacks.of_class,
            Callbacks.static, Callbacks(), functools.partial(function, 1),
            Made, prototype(function), functools.wraps(four)(function),
        ]  # fmt: skip
        for number, kind in enumerate(kinds):
            identity = scene.vm.addCodeAddrCB(scene["at"], pydbi.PREINST, kind, (number,))
            for _ in range(3):
                assert scene.run()
            scene.vm.deleteInstrumentation(identity)
        expected = [(n,) for n in range(len(kinds)) for _ in range(3)]
        assert calls == expected
        for builtin in (len, print, getattr, str, dict):
            identity = scene.vm.addCodeAddrCB(scene["at"], pydbi.PREINST, builtin, None)
            with pytest.raises(TypeError):
                scene.run()
            scene.vm.deleteInstrumentation(identity)
        for wrong in (None, 5, "text", []):
            with pytest.raises(TypeError):
                scene.vm.addCodeCB(pydbi.PREINST, wrong, None)  # type: ignore[arg-type]

    run_in_child(child)


@BOTH
def test_arguments(run_in_child: Child, engine: str) -> None:
    """vm and data are the objects that were given; the states have the registers' values."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "mov eax, 7\nat: inc rax\nend: nop", "at")
        objects = [None, 5, "text", [], {}, object(), scene.vm, scene.module, 1 << 70, Ellipsis]
        found = []

        def look(vm: object, gpr: object, fpr: object, data: object) -> object:
            found.append((vm, data))
            assert isinstance(gpr, scene.module.GPRState)
            assert isinstance(fpr, scene.module.FPRState)
            assert (gpr.rax, gpr.rip) == (7, scene["at"])
            return scene.module.CONTINUE

        for data in objects:
            scene.vm.deleteAllInstrumentations()
            scene.vm.addCodeAddrCB(scene["at"], scene.module.PREINST, look, data)
            assert scene.run()
        assert len(found) == len(objects)
        for data, (vm, received) in zip(objects, found, strict=True):
            assert vm is scene.vm
            assert received is data

    run_in_child(child, engine)


@BOTH
def test_address_and_range_edges(run_in_child: Child, engine: str) -> None:
    """A range matches instructions wholly inside; an address only an instruction's first byte."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        text = "a: mov eax, 1\nb: mov ebx, 2\nc: mov ecx, 3\nend: nop"  # 5 bytes each
        scene = Scenario(engine, text, "a b c")
        a = scene.base
        cases = {
            (a, a + 15): "abc", (a, a + 14): "ab", (a + 1, a + 15): "bc", (a + 5, a + 10): "b",
            (a + 5, a + 9): "", (a + 6, a + 10): "", (a + 4, a + 11): "b", (a - 100, a + 5): "a",
            (a + 10, a + 5000): "c",
        }  # fmt: skip
        for position in (scene.module.PREINST, scene.module.POSTINST):
            for (low, high), expected in cases.items():
                scene.log.clear()
                noting = scene.noting("x")
                identity = scene.vm.addCodeRangeCB(low, high, position, noting, None)
                assert scene.run()
                places = {"PREINST": "abc", "POSTINST": "bc"}[position.name]
                found = "".join(place for _, place in scene.log if place in "abc")
                if position == scene.module.POSTINST:
                    shifted = {"a": "b", "b": "c", "c": ""}
                    expected = "".join(shifted[letter] for letter in expected)
                assert found == expected, (low - a, high - a, places)
                scene.vm.deleteInstrumentation(identity)
        for offset in range(15):
            scene.log.clear()
            noting = scene.noting("x")
            where = scene.module.PREINST
            identity = scene.vm.addCodeAddrCB(a + offset, where, noting, None)
            assert scene.run()
            assert scene.log == ([] if offset % 5 else [("x", "abc"[offset // 5])])
            scene.vm.deleteInstrumentation(identity)

    run_in_child(child, engine)


@BOTH
def test_empty_range(run_in_child: Child, engine: str) -> None:
    """An empty or reversed range is refused with INVALID_EVENTID."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "nop\nend: nop")
        noting = scene.noting("x")
        invalid = scene.module.VMError.INVALID_EVENTID
        for low, high in ((10, 10), (20, 10), (0, 0)):
            identity = scene.vm.addCodeRangeCB(low, high, scene.module.PREINST, noting, None)
            assert identity == int(invalid)
        assert scene.run()
        assert scene.log == []

    run_in_child(child, engine)


@BOTH
def test_identities(run_in_child: Child, engine: str) -> None:
    """Ids count from 0, are not used again, and start anew after deleteAllInstrumentations."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "nop\nend: nop")
        assert [scene.add("PRE", name) for name in "abc"] == [0, 1, 2]
        scene.vm.deleteInstrumentation(1)
        assert scene.add("POST", "d") == 3
        scene.vm.deleteAllInstrumentations()
        assert scene.add("POST", "e") == 0
        assert scene.vm.deleteInstrumentation(12345) is None

    run_in_child(child, engine)


@BOTH
def test_analysis_of_the_current_instruction(run_in_child: Child, engine: str) -> None:
    """getInstAnalysis in a PREINST or POSTINST callback is about that callback's instruction."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        text = """
        xor eax, eax
        jumps: jz calls
        int3
        calls: call function
        over: jmp end
        function: mov ecx, 5
        return: ret
        end: nop"""
        scene = Scenario(engine, text, "jumps calls over function return")
        found = []

        def look(vm: object, gpr: object, fpr: object, data: str) -> object:
            analysis = scene.vm.getInstAnalysis()
            if analysis.address != scene["end"]:
                words = analysis.disassembly.split()
                found.append((data, scene.where(analysis.address), words[0], analysis.instSize))
            return scene.module.CONTINUE

        scene.vm.addCodeCB(scene.module.PREINST, look, "before")
        scene.vm.addCodeCB(scene.module.POSTINST, look, "after")
        for _ in range(2):
            assert scene.run()
        once = []
        for place, word, size in (
            ("start", "xor", 2), ("jumps", "je", 2), ("calls", "call", 5), ("function", "mov", 5),
            ("return", "ret", 1), ("over", "jmp", 2),
        ):  # fmt: skip
            once += [("before", place, word, size), ("after", place, word, size)]
        known = {"ret": "ret", "retq": "ret"}
        assert [(p, w, known.get(m, m), s) for p, w, m, s in found] == once * 2

    run_in_child(child, engine)


def test_a_thousand_callbacks_on_one_instruction(run_in_child: Child) -> None:
    """A thousand callbacks before and after one instruction all come, in their order."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        scene = Scenario("pydbi", "again: dec rcx\nnext: jnz again\nend: nop", "next")
        calls = []

        def note(vm: object, gpr: object, fpr: object, data: int) -> pydbi.VMAction:
            calls.append(data)
            return pydbi.CONTINUE

        count = 1000
        for number in range(count):
            scene.vm.addCodeAddrCB(scene.base, pydbi.PREINST, note, number)
            scene.vm.addCodeAddrCB(scene.base, pydbi.POSTINST, note, number + count)
        scene.set(rcx=3)
        assert scene.run()
        assert calls == list(range(2 * count)) * 3
        assert scene.register("rcx") == 0

    run_in_child(child)
