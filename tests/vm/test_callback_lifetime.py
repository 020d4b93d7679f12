"""Callbacks that add and delete callbacks, nested runs, and what callbacks keep alive."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]
BOTH = pytest.mark.parametrize("engine", ["pydbi", "pyqbdi"])


@BOTH
@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_deleting_itself(run_in_child: Child, engine: str, position: str) -> None:
    """A callback that deletes itself and breaks off is called once; others go on."""

    def child(engine: str, position: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "again: dec rcx; jnz again\nend: nop")
        calls = []
        where = getattr(scene.module, position + "INST")

        def once(vm: object, gpr: object, fpr: object, data: list[int]) -> object:
            calls.append("once")
            scene.vm.deleteInstrumentation(data[0])
            return scene.module.BREAK_TO_VM

        def always(vm: object, gpr: object, fpr: object, data: object) -> object:
            calls.append("always")
            return scene.module.CONTINUE

        holder: list[int] = []
        holder.append(scene.vm.addCodeAddrCB(scene.base, where, once, holder))
        scene.vm.addCodeAddrCB(scene.base, where, always, None)
        scene.set(rcx=5)
        assert scene.run()
        # After BREAK_TO_VM behind the instruction its later callbacks are not called.
        assert calls == ["once"] + ["always"] * (5 if position == "PRE" else 4)
        assert scene.register("rcx") == 0

    run_in_child(child, engine, position)


@BOTH
@pytest.mark.parametrize("everywhere", [False, True])
def test_adding_a_callback(run_in_child: Child, engine: str, everywhere: bool) -> None:
    """A callback that a callback adds, and breaks off, is called from the next instruction on."""

    def child(engine: str, everywhere: bool) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "a: nop\nb: nop\nc: nop\nd: nop\nend: nop", "a b c d")
        module = scene.module

        def add(vm: object, gpr: object, fpr: object, data: object) -> object:
            if everywhere:
                scene.vm.addCodeCB(module.PREINST, scene.noting("new"), None)
            else:
                scene.vm.addCodeAddrCB(scene["c"], module.PREINST, scene.noting("new"), None)
            return module.BREAK_TO_VM

        scene.vm.addCodeAddrCB(scene["a"], module.POSTINST, add, None)
        assert scene.run()
        places = [place for _, place in scene.log]
        assert places == (["b", "c", "d"] if everywhere else ["c"])

    run_in_child(child, engine, everywhere)


def test_deleting_without_breaking_off(run_in_child: Child) -> None:
    """Callbacks deleted by a callback are not called any more once the block is entered again."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        text = "again: nop; nop\nlast: dec rcx; jnz again\nend: nop"
        scene = Scenario("pydbi", text, "last")
        calls: list[bool] = []

        def act(vm: pydbi.VM, gpr: object, fpr: object, remove_all: bool) -> pydbi.VMAction:
            calls.append(remove_all)
            if len(calls) == 3:
                if remove_all:
                    vm.deleteAllInstrumentations()
                else:
                    vm.deleteInstrumentation(identity)
                    vm.deleteInstrumentation(identity)
            return pydbi.CONTINUE

        for remove_all in (False, True, False):
            calls.clear()
            identity = scene.vm.addCodeAddrCB(scene["last"], pydbi.PREINST, act, remove_all)
            scene.set(rcx=100)
            assert scene.run()
            assert calls == [remove_all] * 3
            assert scene.register("rcx") == 0

    run_in_child(child)


def test_deleting_others_in_the_same_instruction(run_in_child: Child) -> None:
    """Deleting all callbacks in the midst of an instruction's callbacks harms nothing."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        scene = Scenario("pydbi", "again: dec rcx; jnz again\nend: nop")
        calls: list[int] = []

        def act(vm: pydbi.VM, gpr: object, fpr: object, data: list[int]) -> pydbi.VMAction:
            calls.append(data[0])
            if data[0] == 5:
                for identity in range(10):
                    vm.deleteInstrumentation(identity)
                for number in range(100, 110):  # they may take the places of the deleted ones
                    vm.addCodeAddrCB(scene.base, pydbi.PREINST, act, [number])
            return pydbi.CONTINUE

        for number in range(10):
            scene.vm.addCodeAddrCB(scene.base, pydbi.PREINST, act, [number])
        scene.set(rcx=3)
        assert scene.run()
        assert calls[:6] == [0, 1, 2, 3, 4, 5]
        # The rest of the pass may still call the old ones, but never one in another's place.
        first_new = calls.index(100)
        assert calls[6:first_new] in ([], [6, 7, 8, 9])
        assert calls[first_new:] == list(range(100, 110)) * 2
        assert scene.register("rcx") == 0

    run_in_child(child)


def test_references_stay_as_they_were(run_in_child: Child) -> None:
    """A hundred thousand callbacks change no reference count and leave no memory behind."""

    def child() -> None:
        import gc
        import sys
        import tracemalloc

        import pydbi
        from tests.vm.scenario import Scenario

        scene = Scenario("pydbi", "again: dec rcx; jnz again\nend: nop")
        data = object()
        results = [pydbi.CONTINUE, pydbi.BREAK_TO_VM]
        count = 0

        def act(vm: object, gpr: pydbi.GPRState, fpr: object, data: object) -> pydbi.VMAction:
            nonlocal count
            count += 1
            return results[not count % 50]

        scene.vm.addCodeCB(pydbi.POSTINST, act, data)
        scene.set(rcx=1000)
        assert scene.run()
        watched = (data, act, scene.vm, scene.gpr, None, *results)
        gc.collect()
        tracemalloc.start()
        before = [sys.getrefcount(thing) for thing in watched]
        allocated = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            scene.set(rcx=10_000)
            assert scene.run()
        gc.collect()
        after = [sys.getrefcount(thing) for thing in watched]
        assert count > 100_000
        for thing, low, high in zip(watched, before, after, strict=True):
            assert abs(high - low) < 10, thing
        assert tracemalloc.get_traced_memory()[0] - allocated < 50_000

    run_in_child(child)


def test_wrong_results_leave_nothing_behind(run_in_child: Child) -> None:
    """Thousands of exceptions and wrong results keep neither results nor frames alive."""

    def child() -> None:
        import gc
        import weakref

        import pydbi
        from tests.vm.scenario import Scenario

        class Result:
            pass

        scene = Scenario("pydbi", "nop\nend: nop")
        alive: weakref.WeakSet[Result] = weakref.WeakSet()

        def act(vm: object, gpr: object, fpr: object, data: list[int]) -> object:
            data[0] += 1
            result = Result()
            alive.add(result)
            if data[0] % 2:
                raise ValueError(result)
            return result

        data = [0]
        scene.vm.addCodeCB(pydbi.PREINST, act, data)
        for _ in range(3000):
            try:
                scene.run()
            except (ValueError, TypeError):
                continue
        gc.collect()
        assert data[0] == 3000
        assert len(alive) <= 1

    run_in_child(child)


def test_deleted_callbacks_are_released(run_in_child: Child) -> None:
    """A deleted callback and its data are released at once, or after the run it was deleted in."""

    def child() -> None:
        import gc
        import weakref

        import pydbi
        from tests.vm.scenario import Scenario

        class Data:
            pass

        scene = Scenario("pydbi", "nop; nop\nend: nop")

        def add(inside: bool) -> tuple[object, object]:
            data = Data()

            def act(vm: pydbi.VM, gpr: object, fpr: object, data: object) -> pydbi.VMAction:
                if inside:
                    vm.deleteAllInstrumentations()
                return pydbi.CONTINUE

            scene.vm.addCodeAddrCB(scene.base, pydbi.PREINST, act, data)
            return weakref.ref(act), weakref.ref(data)

        for inside in (False, True):
            for _ in range(3):
                references = add(inside)
                assert scene.run()
                if not inside:
                    gc.collect()
                    assert all(reference() for reference in references)
                    scene.vm.deleteAllInstrumentations()
                    assert scene.run()
                gc.collect()
                assert [reference() for reference in references] == [None, None]

    run_in_child(child)


def test_a_vm_releases_its_callbacks(run_in_child: Child) -> None:
    """A VM that is no longer used is released with its callbacks, even if they refer to it."""

    def child() -> None:
        import gc
        import weakref

        import pydbi
        from tests.vm.scenario import Scenario

        class Data:
            def __init__(self, vm: object) -> None:
                self.vm = vm

        def make(refer: bool) -> tuple[object, object]:
            scene = Scenario("pydbi", "nop\nend: nop")
            data = Data(scene.vm if refer else None)
            scene.vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, data)
            assert scene.run()
            return weakref.ref(scene.vm), weakref.ref(data)

        for refer in (False, True):
            references = make(refer)
            gc.collect()
            assert [reference() for reference in references] == [None, None], refer

    run_in_child(child)


def test_another_vm_runs_in_a_callback(run_in_child: Child) -> None:
    """A callback may run another VM, which may run a third; each keeps its own state."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        text = "again: add rax, rbx; movq xmm5, rax\nlast: dec rcx; jnz again\nend: nop"
        scenes = [Scenario("pydbi", text, "last") for _ in range(3)]

        def run_next(vm: object, gpr: object, fpr: object, depth: int) -> pydbi.VMAction:
            if depth < 2:
                run(depth + 1)
            return pydbi.CONTINUE

        def run(depth: int) -> None:
            scene = scenes[depth]
            scene.set(rax=0, rbx=depth + 5, rcx=10)
            assert scene.run()
            assert scene.register("rax") == 10 * (depth + 5)
            xmm5 = scene.vm.getFPRState().xmm5
            assert int.from_bytes(xmm5[:8], "little") == 10 * (depth + 5)

        for depth, scene in enumerate(scenes):
            scene.vm.addCodeAddrCB(scene["last"], pydbi.PREINST, run_next, depth)
        run(0)

    run_in_child(child)


def test_the_same_vm_does_not_run_in_its_callback(run_in_child: Child) -> None:
    """run and call of a running VM raise ReentryError; the outer run is not disturbed."""

    def child() -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        scene = Scenario("pydbi", "again: inc rax; dec rcx; jnz again\nend: nop\nf: ret", "f")
        assert scene.vm.call(scene["f"], [])[0]  # so that its entry is known
        raised = []

        def act(vm: pydbi.VM, gpr: object, fpr: object, data: object) -> pydbi.VMAction:
            for start in (
                lambda: vm.run(scene.base, scene["end"]),
                lambda: vm.call(scene["f"], []),
                lambda: vm.call(scene["f"], [1, 2, 3, 4, 5, 6, 7, 8]),
                lambda: vm.call(scene.base, []),
            ):
                with pytest.raises(pydbi.ReentryError) as caught:
                    start()
                raised.append(caught.value)
            return pydbi.CONTINUE

        scene.vm.addCodeAddrCB(scene.base, pydbi.PREINST, act, None)
        scene.names[scene["f"]] = "f"
        rsp = scene.gpr.rsp
        scene.set(rax=0, rcx=10)
        assert scene.run()
        assert (scene.register("rax"), scene.register("rcx")) == (10, 0)
        assert scene.register("rsp") == rsp
        assert len(raised) == 40

        def unhandled(vm: pydbi.VM, gpr: object, fpr: object, data: object) -> object:
            return vm.run(scene.base, scene["end"])

        scene.vm.deleteAllInstrumentations()
        scene.vm.addCodeAddrCB(scene.base, pydbi.PREINST, unhandled, None)
        with pytest.raises(pydbi.ReentryError):
            scene.run()
        scene.vm.deleteAllInstrumentations()
        scene.set(rax=0, rcx=10)
        assert scene.run()
        assert scene.register("rax") == 10

    run_in_child(child)
