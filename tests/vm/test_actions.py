"""The actions of instruction callbacks: what PyQBDI does, and pydbi where PyQBDI hangs or dies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]
BOTH = pytest.mark.parametrize("engine", ["pydbi", "pyqbdi"])


@BOTH
@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_priority(run_in_child: Child, engine: str, position: str) -> None:
    """Higher priority first, equal priority in the order of registration."""

    def child(engine: str, position: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "nop; first: nop\nend: nop", "first")
        priorities = {"a": 3, "b": 10, "c": -5, "d": 10, "e": 3, "f": 1000}
        # PyQBDI takes 0.7 seconds for three callbacks at one instruction, and 20 for seven.
        for name in "abcdef" if engine == "pydbi" else "abd":
            scene.add(position, name, priority=priorities[name])
        if engine == "pydbi":
            scene.add(position, "g", at="first", priority=7)
        assert scene.run()
        found = "".join(name for name, where in scene.log if where == "first")
        assert found == {
            ("pydbi", "PRE"): "fbdgaec", ("pydbi", "POST"): "fbdaec",
            ("pyqbdi", "PRE"): "bda", ("pyqbdi", "POST"): "bda",
        }[engine, position]  # fmt: skip

    run_in_child(child, engine, position)


@BOTH
def test_instruction_pointer(run_in_child: Child, engine: str) -> None:
    """Before an instruction rip is its address, after it the next one to be executed."""

    def child(engine: str) -> None:
        import itertools

        from tests.vm.scenario import Scenario

        text = """
        xor eax, eax
        taken: jz go
        int3
        go: jnz taken
        direct: jmp calls
        int3
        calls: call function
        load: lea rax, [rip + away]
        indirect: jmp rax
        int3
        away: lea rdx, [rip + function]
        through: call rdx
        push: push rax
        popped: pop rbx
        over: jmp end
        function: nop
        return: ret
        end: nop"""
        labels = "taken go direct calls load indirect away through push popped over function return"
        scene = Scenario(engine, text, labels)
        scene.add("PRE", "before")
        scene.add("POST", "after")
        assert scene.run()
        path = "start taken go direct calls function return load indirect away through function"
        path += " return push popped over"
        expected = []
        steps = [*path.split(), "end"]
        for step, following in itertools.pairwise(steps):
            expected.append(("before", step))
            if following != "end":
                expected.append(("after", following))
        assert scene.log == expected

    run_in_child(child, engine)


@BOTH
def test_skip_instruction(run_in_child: Child, engine: str) -> None:
    """SKIP_INST skips the instruction and later PREINST callbacks, but no POSTINST callback."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(
            engine, "mov eax, 1\nat: mov eax, 2\nnext: mov ebx, 3\nend: nop", "at next"
        )
        scene.set(rax=0, rbx=0)
        scene.add("PRE", "first", at="at")
        scene.add("PRE", "second", "SKIP_INST", at="at")
        scene.add("PRE", "third", at="at")
        scene.add("POST", "fourth", at="at")
        scene.add("POST", "fifth", at="at")
        assert scene.run()
        assert (scene.register("rax"), scene.register("rbx")) == (1, 3)
        assert scene.log == [
            ("first", "at"), ("second", "at"), ("fourth", "next"), ("fifth", "next"),
        ]  # fmt: skip
        scene.log.clear()
        assert scene.run()  # the callback returns CONTINUE now
        assert scene.register("rax") == 2
        assert [name for name, _ in scene.log] == ["first", "second", "third", "fourth", "fifth"]

    run_in_child(child, engine)


@BOTH
def test_skip_patch(run_in_child: Child, engine: str) -> None:
    """SKIP_PATCH before an instruction skips it and all its callbacks."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(
            engine, "mov eax, 1\nat: mov eax, 2\nnext: mov ebx, 3\nend: nop", "at next"
        )
        scene.set(rbx=0)
        scene.add("PRE", "first", "SKIP_PATCH", at="at")
        scene.add("PRE", "second", at="at")
        scene.add("POST", "third", at="at")
        scene.add("PRE", "fourth", at="next")
        assert scene.run()
        assert (scene.register("rax"), scene.register("rbx")) == (1, 3)
        assert scene.log == [("first", "at"), ("fourth", "next")]

    run_in_child(child, engine)


@BOTH
def test_skip_patch_after(run_in_child: Child, engine: str) -> None:
    """SKIP_PATCH after an instruction drops its later POSTINST callbacks."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "at: mov eax, 2\nnext: mov ebx, 3\nend: nop", "at next")
        scene.set(rax=0, rbx=0)
        scene.add("POST", "first", "SKIP_PATCH", at="at")
        scene.add("POST", "second", at="at")
        scene.add("PRE", "third", at="next")
        assert scene.run()
        assert (scene.register("rax"), scene.register("rbx")) == (2, 3)
        assert scene.log == [("first", "next"), ("third", "next")]

    run_in_child(child, engine)


@BOTH
def test_skip_instruction_after(run_in_child: Child, engine: str) -> None:
    """SKIP_INST after an instruction is CONTINUE; pydbi warns."""

    def child(engine: str) -> None:
        import warnings

        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "at: mov eax, 2\nnext: mov ebx, 3\nend: nop", "at next")
        scene.set(rax=0, rbx=0)
        scene.add("POST", "first", "SKIP_INST", at="at")
        scene.add("POST", "second", at="at")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert scene.run()
        assert (scene.register("rax"), scene.register("rbx")) == (2, 3)
        assert scene.log == [("first", "next"), ("second", "next")]
        if engine == "pydbi":
            assert "SKIP_INST" in str(caught[0].message)

    run_in_child(child, engine)


@BOTH
def test_break_before(run_in_child: Child, engine: str) -> None:
    """BREAK_TO_VM before an instruction runs all its callbacks again."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "at: inc rax\nnext: inc rax\nend: nop", "at next")
        scene.set(rax=0)
        scene.add("PRE", "first", at="at")
        scene.add("PRE", "second", "BREAK_TO_VM", at="at")
        scene.add("POST", "third", at="at")
        assert scene.run()
        assert scene.register("rax") == 2
        names = ["first", "second", "first", "second", "third"]
        assert [name for name, _ in scene.log] == names

    run_in_child(child, engine)


@BOTH
def test_break_after(run_in_child: Child, engine: str) -> None:
    """BREAK_TO_VM after an instruction goes on with the next one, without later callbacks."""

    def child(engine: str) -> None:
        from tests.vm.scenario import Scenario

        scene = Scenario(engine, "at: inc rax\nnext: inc rax\nend: nop", "at next")
        scene.set(rax=0)
        scene.add("POST", "first", "BREAK_TO_VM", at="at")
        scene.add("POST", "second", at="at")
        scene.add("PRE", "third", at="next")
        assert scene.run()
        assert scene.register("rax") == 2
        assert scene.log == [("first", "next"), ("third", "next")]

    run_in_child(child, engine)


@BOTH
@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_break_to_another_address(run_in_child: Child, engine: str, position: str) -> None:
    """BREAK_TO_VM with a changed rip goes on there: backwards, into a cached block's middle."""

    def child(engine: str, position: str) -> None:
        from tests.vm.scenario import Scenario

        text = "inc rax\nback: inc rbx\nat: inc rcx\nnext: inc rdx\nend: nop"
        scene = Scenario(engine, text, "back at next")
        scene.set(rax=0, rbx=0, rcx=0, rdx=0)
        scene.add(position, "move", *["BREAK_TO_VM"] * 3, at="at", move="back")
        assert scene.run()
        passes = 4 if position == "POST" else 1
        found = [scene.register(name) for name in ("rax", "rbx", "rcx", "rdx")]
        assert found == [1, 4, passes, 1]
        assert len(scene.log) == 4

    run_in_child(child, engine, position)


@BOTH
@pytest.mark.parametrize("position", ["PRE", "POST"])
@pytest.mark.parametrize("kind", ["plain", "jmp", "jcc", "call", "ret"])
def test_stop(run_in_child: Child, engine: str, position: str, kind: str) -> None:
    """STOP ends the run before or after the instruction, and the guest can go on from there."""

    def child(engine: str, position: str, kind: str) -> None:
        from tests.vm.scenario import Scenario

        code = {
            "plain": "nop",
            "jmp": "jmp behind; int3",
            "jcc": "cmp rbx, rbx; at2: je behind; int3",
            "call": "call function",
            "ret": "lea rdx, [rip + behind]; push rdx; at2: ret",
        }[kind]
        place = "at2" if "at2" in code else "at"
        labels = f"at behind {'at2' if place == 'at2' else ''} function"
        text = f"""
        mov eax, 1
        at: {code}
        behind: add eax, 2
        jmp end
        function: add eax, 4; ret
        end: nop"""
        scene = Scenario(engine, text, labels)
        scene.add(position, "stop", "STOP", at=place)
        assert scene.run()
        after = "function" if kind == "call" else "behind"
        rip = scene[place] if position == "PRE" else scene[after]
        assert scene.register("rax") == 1
        assert scene.where(scene.register("rip")) == scene.where(rip)
        scene.vm.deleteAllInstrumentations()
        assert scene.vm.run(scene.register("rip"), scene["end"])
        assert scene.register("rax") == (7 if kind == "call" else 3)

    run_in_child(child, engine, position, kind)


@BOTH
@pytest.mark.parametrize("position", ["PRE", "POST"])
@pytest.mark.filterwarnings("ignore")
def test_changed_rip_without_break(run_in_child: Child, engine: str, position: str) -> None:
    """A callback that changes rip and returns CONTINUE changes nothing about the way."""

    def child(engine: str, position: str) -> None:
        from tests.vm.scenario import Scenario

        text = "at: inc rax\nnext: inc rbx\nthere: inc rcx\nend: nop"
        scene = Scenario(engine, text, "at next there")
        scene.set(rax=0, rbx=0, rcx=0)
        scene.add(position, "move", "CONTINUE", at="at", move="there")
        scene.add("PRE", "next", at="next")
        assert scene.run()
        assert [scene.register(name) for name in ("rax", "rbx", "rcx")] == [1, 1, 1]
        assert scene.log[-1] == ("next", "next")

    run_in_child(child, engine, position)


@pytest.mark.parametrize("action", ["SKIP_INST", "SKIP_PATCH"])
@pytest.mark.parametrize("kind", ["jmp", "jcc", "call", "ret", "jmp rax", "call rax", "loop"])
def test_skip_a_branch(run_in_child: Child, kind: str, action: str) -> None:
    """A skipped branch falls through; after SKIP_INST its POSTINST callbacks see that address."""

    def child(kind: str, action: str) -> None:
        from tests.vm.scenario import Scenario

        code = {
            "jmp": "jmp wrong",
            "jcc": "jz wrong",
            "call": "call wrong",
            "ret": "ret",
            "jmp rax": "jmp rax",
            "call rax": "call rax",
            "loop": "loop wrong",
        }[kind]
        text = f"""
        lea rax, [rip + wrong]; push rax; xor ebx, ebx; mov ecx, 3
        at: {code}
        next: mov ebx, 1; jmp end
        wrong: mov ebx, 2
        end: nop"""
        scene = Scenario("pydbi", text, "at next")
        rsp = scene.gpr.rsp
        scene.add("PRE", "skip", *[action] * 2, at="at")
        scene.add("PRE", "not due", at="at")
        scene.add("POST", "after", at="at")
        after = [("after", "next")] if action == "SKIP_INST" else []
        for _ in range(2):
            scene.set(rsp=rsp)
            scene.log.clear()
            assert scene.run()
            assert scene.log == [("skip", "at"), *after]
            assert (scene.register("rbx"), scene.register("rcx")) == (1, 3)
            assert scene.register("rsp") == rsp - 8  # the push before, nothing else
        scene.set(rsp=rsp)
        assert scene.run()
        assert scene.register("rbx") == 2

    run_in_child(child, kind, action)


@pytest.mark.parametrize("kind", ["jmp", "jcc", "call", "ret", "jmp rax", "call rax"])
def test_actions_after_a_branch(run_in_child: Child, kind: str) -> None:
    """BREAK_TO_VM and SKIP_PATCH after a branch go on at its target."""

    def child(kind: str) -> None:
        from tests.vm.scenario import Scenario

        code = "jz there" if kind == "jcc" else kind + ("" if " " in kind else " there")
        text = f"""
        lea rax, [rip + there]; push rax; xor ebx, ebx
        at: {"ret" if kind == "ret" else code}
        next: mov ebx, 1; jmp end
        there: mov ebx, 2
        end: nop"""
        for action in ("BREAK_TO_VM", "SKIP_PATCH"):
            scene = Scenario("pydbi", text, "at next there")
            scene.add("POST", "act", action, at="at")
            scene.add("POST", "later", at="at")
            assert scene.run()
            assert scene.log == [("act", "there")]
            assert scene.register("rbx") == 2
        scene = Scenario("pydbi", text, "at next there")
        scene.add("POST", "act", "BREAK_TO_VM", at="at", move="next")
        assert scene.run()
        assert scene.register("rbx") == 1

    run_in_child(child, kind)


@pytest.mark.parametrize("seed", range(3))
def test_random_actions_keep_the_program_right(run_in_child: Child, seed: int) -> None:
    """Callbacks that break off at random, or skip their own callbacks, do not change a result."""

    def child(seed: int) -> None:
        import random

        import pydbi
        from tests.jit.maze import Maze, machine, map_code, slots

        vm = machine()
        maze = Maze(slots(map_code(1 << 16), 40), seed)
        chance = random.Random(seed)
        broke = 0

        def act(vm: object, gpr: object, fpr: object, data: object) -> pydbi.VMAction:
            nonlocal broke
            if chance.random() < 0.2:
                broke += 1
                return pydbi.BREAK_TO_VM
            return pydbi.CONTINUE

        vm.addCodeCB(pydbi.POSTINST, act, None)
        vm.addCodeCB(pydbi.PREINST, act, None, 3)
        for _ in range(20):
            maze.check(vm, maze.random.randrange(maze.count), 200)
        assert broke > 1000

    run_in_child(child, seed)
