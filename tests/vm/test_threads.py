"""VMs in threads of Python's, and runs that a signal interrupts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]


@pytest.mark.parametrize("instrumented", [False, True])
def test_vms_in_threads(run_in_child: Child, instrumented: bool) -> None:
    """Several threads run a VM each; results, flags and vectors stay their own."""

    def child(instrumented: bool) -> None:
        import threading

        import pydbi
        from tests.jit.maze import Maze, machine, map_code, slots

        failures: list[BaseException] = []
        counts = [0] * 4

        def count(vm: object, gpr: object, fpr: object, number: int) -> pydbi.VMAction:
            counts[number] += 1
            return pydbi.CONTINUE

        def work(number: int) -> None:
            try:
                vm = machine()
                maze = Maze(slots(map_code(1 << 16), 40), number)
                if instrumented:
                    vm.addCodeCB(pydbi.PREINST, count, number)
                for turn in range(40):
                    counts[number] = 0
                    maze.check(vm, turn % maze.count, 300)
                    assert counts[number] == (maze.instructions if instrumented else 0)
            except BaseException as error:
                failures.append(error)

        import sys

        sys.setswitchinterval(1e-4)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures

    run_in_child(child, instrumented)


def test_a_vm_moves_to_another_thread(run_in_child: Child) -> None:
    """A VM made and used in one thread runs in another one; faults there are exceptions too."""

    def child() -> None:
        import threading

        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        scene = Scenario("pydbi", "inc rbx\nat: mov rax, [rcx]\nend: nop", "at")
        scene.set(rbx=0, rcx=scene.data)
        assert scene.run()
        done = []

        def work() -> None:
            assert scene.run()
            scene.set(rcx=8)
            for _ in range(2):
                with pytest.raises(pydbi.GuestFault) as caught:
                    scene.run()
                assert caught.value.app_address == scene["at"]
            scene.set(rcx=scene.data)
            done.append(True)

        for _ in range(3):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert len(done) == 3
        assert scene.run()
        assert scene.register("rbx") == 1 + 3 * 3 + 1

    run_in_child(child)


@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_signal_handler_that_raises(run_in_child: Child, position: str) -> None:
    """A Python signal handler runs while callbacks do; what it raises comes out of run."""

    def child(position: str) -> None:
        import signal

        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        class AlarmError(Exception):
            pass

        def handler(number: int, frame: object) -> None:
            nonlocal wanted
            if counts >= wanted:
                wanted = 1 << 60
                raise AlarmError

        scene = Scenario("pydbi", "again: inc rbx; add rdx, rbx; jmp again\nend: nop")
        counts = wanted = 0

        def count(*_: object) -> pydbi.VMAction:
            nonlocal counts
            counts += 1
            return pydbi.CONTINUE

        scene.vm.addCodeCB(getattr(pydbi, position + "INST"), count, None)
        signal.signal(signal.SIGALRM, handler)
        scene.set(rbx=0, rdx=0)
        address = scene.base
        for _ in range(5):
            wanted = counts + 100
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            with pytest.raises(AlarmError):
                scene.vm.run(address, scene["end"])
            address = scene.register("rip")
            rbx, rdx = scene.register("rbx"), scene.register("rdx")
            done = rbx * (rbx + 1) // 2
            assert rdx in (done, done - rbx)
            assert abs(3 * rbx - counts) < 30

    run_in_child(child, position)
