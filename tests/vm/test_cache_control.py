"""Clearing the cache at any time, changed code, many VMs, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]


@pytest.mark.parametrize("what", ["own block", "another block", "everything", "nothing there"])
@pytest.mark.parametrize("position", ["PRE", "POST"])
@pytest.mark.parametrize("break_off", [False, True])
def test_clearing_in_callbacks(
    run_in_child: Child, what: str, position: str, break_off: bool
) -> None:
    """Callbacks may clear the cache again and again, the running block too; the result is right."""

    def child(what: str, position: str, break_off: bool) -> None:
        import pydbi
        from tests.jit.maze import Maze, machine, map_code, slots

        vm = machine()
        maze = Maze(slots(map_code(1 << 16), 30), 3)
        count = cleared = 0

        def clear(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: object, data: object) -> pydbi.VMAction:
            nonlocal count, cleared
            count += 1
            if count % 5:
                return pydbi.CONTINUE
            cleared += 1
            if what == "everything":
                vm.clearAllCache()
            elif what == "nothing there":
                vm.clearCache(0x1000, 0x2000)
            else:
                other = maze.addresses[count % maze.count]
                address = gpr.rip if what == "own block" else other
                vm.clearCache(address, address + 16)
            return pydbi.BREAK_TO_VM if break_off else pydbi.CONTINUE

        vm.addCodeCB(getattr(pydbi, position + "INST"), clear, None)
        for start in range(5):
            count = 0
            maze.check(vm, start, 100)
            if position == "POST" or not break_off:
                assert count == maze.instructions
        assert cleared > 200

    run_in_child(child, what, position, break_off)


def test_changed_code_in_the_running_block(run_in_child: Child) -> None:
    """A callback that changes an instruction, clears it and breaks off: the new one is executed."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        text = "again: nop\nchanged: mov eax, 1\nadd rbx, rax; dec rcx; jnz again\nend: nop"
        scene = Scenario("pydbi", text, "changed")
        offset = scene["changed"] - scene.base + 1

        def change(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: object, data: object) -> pydbi.VMAction:
            scene._pages[offset : offset + 4] = (gpr.rcx * 7).to_bytes(4, "little")
            vm.clearCache(scene["changed"], scene["changed"] + 5)
            return pydbi.BREAK_TO_VM

        scene.vm.addCodeAddrCB(scene.base, pydbi.POSTINST, change, None)
        scene.set(rbx=0, rcx=50)
        assert scene.run()
        assert scene.register("rbx") == 7 * sum(range(51))

    run_in_child(child)


def test_changed_code_between_runs(run_in_child: Child) -> None:
    """After clearCache code of another length and shape is executed; without it, the old one."""

    def child() -> None:
        import ctypes

        from tests.jit.maze import machine, map_code

        vm = machine()
        base = map_code(4096)
        versions = {
            b"\xb8\x05\x00\x00\x00\xc3": 5,  # mov eax, 5; ret
            b"\x48\x8d\x47\x07\xc3": 107,  # lea rax, [rdi + 7]; ret
            b"\x48\x31\xc0\x48\xff\xc0\xeb\x00\xeb\x01\xcc\xc3": 1,  # with jumps
            b"\x57\xff\x34\x24\x58\x58\xc3": 100,  # push rdi; push [rsp]; pop rax; pop rax; ret
        }
        previous = None
        for _ in range(5):
            for code, result in versions.items():
                ctypes.memmove(base, code, len(code))
                if previous is not None:
                    assert vm.call(base, [100]) == (True, previous)
                vm.clearCache(base, base + 1)
                for _ in range(3):
                    assert vm.call(base, [100]) == (True, result)
                previous = result

    run_in_child(child)


def test_replaced_mapping(run_in_child: Child) -> None:
    """Code that is unmapped and mapped anew elsewhere or changed is seen after clearCache."""

    def child() -> None:
        import ctypes

        import pytest

        import pydbi
        from pydbi.host.memory import protect_memory, unmap_memory
        from tests.jit.maze import machine, map_code

        vm = machine()
        base = map_code(8192)
        for value in range(1, 20):
            if value > 1:
                assert map_code(8192, base) == base
            code = b"\xb8" + value.to_bytes(4, "little") + b"\xc3"
            ctypes.memmove(base, code, len(code))
            protect_memory(base, 8192, 5)  # readable and executable: pages are remembered
            vm.clearCache(base, base + 8192)
            assert vm.call(base, []) == (True, value)
            unmap_memory(base, 8192)
        vm.clearCache(base, base + 8192)
        with pytest.raises(pydbi.GuestFault):
            vm.call(base, [])

    run_in_child(child)


def test_interleaved_vms(run_in_child: Child) -> None:
    """VMs that run the same code in turns, one with callbacks, do not disturb one another."""

    def child() -> None:
        import pydbi
        from tests.jit.maze import Maze, machine, map_code, slots

        maze = Maze(slots(map_code(1 << 16), 40), 9)
        vms = [machine() for _ in range(4)]
        counts = [0] * 4

        def count(vm: object, gpr: object, fpr: object, number: int) -> pydbi.VMAction:
            counts[number] += 1
            return pydbi.CONTINUE

        vms[1].addCodeCB(pydbi.PREINST, count, 1)
        vms[2].addCodeCB(pydbi.POSTINST, count, 2)
        identity = vms[3].addCodeCB(pydbi.PREINST, count, 3)
        for turn in range(30):
            if turn == 15:
                vms[3].deleteInstrumentation(identity)
                vms[2].clearAllCache()
            for number, vm in enumerate(vms):
                counts[:] = [0] * 4
                maze.check(vm, turn, 100)
                expected = [0] * 4
                if number in (1, 2) or (number == 3 and turn < 15):
                    expected[number] = maze.instructions
                assert counts == expected

    run_in_child(child)


@pytest.mark.parametrize("with_callback", [False, True])
def test_many_vms(run_in_child: Child, with_callback: bool) -> None:
    """Eight hundred VMs, made, run and dropped, leave no memory, mapping or descriptor behind."""

    def child(with_callback: bool) -> None:
        import ctypes
        import gc
        import os
        from pathlib import Path

        import pydbi
        from tests.exec.resident import resident_size
        from tests.jit.maze import map_code

        base = map_code(4096)
        ctypes.memmove(base, b"\x48\x8d\x47\x07\xc3", 5)  # lea rax, [rdi + 7]; ret
        stack = map_code(1 << 16)

        def use(count: int) -> None:
            for number in range(count):
                vm = pydbi.VM()
                vm.addInstrumentedRange(base, base + 4096)
                vm.getGPRState().rsp = stack + (1 << 16)
                if with_callback:
                    vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, None)
                assert vm.call(base, [number]) == (True, number + 7)
                if number % 100 == 0:
                    gc.collect()

        def measure() -> tuple[int, int, int]:
            gc.collect()
            mappings = len(Path("/proc/self/maps").read_text().splitlines())
            return resident_size(), mappings, len(os.listdir("/proc/self/fd"))

        use(100)
        before = measure()
        use(800)
        after = measure()
        assert after[0] - before[0] < 2 << 20
        assert after[1] - before[1] < 20
        assert after[2] == before[2]

    run_in_child(child, with_callback, timeout=30)


def test_states_of_a_dropped_vm(run_in_child: Child) -> None:
    """A register state outlives its VM: reading it afterwards is no crash."""

    def child() -> None:
        import gc

        import pydbi

        vm = pydbi.VM()
        vm.getGPRState().rax = 0x1234
        gpr, fpr = vm.getGPRState(), vm.getFPRState()
        del vm
        gc.collect()
        for _ in range(5):
            other = pydbi.VM()
            other.getGPRState().rax = 1
        assert gpr.rax == 0x1234
        gpr.rax = 5
        fpr.xmm0 = b"text"
        assert (gpr.rax, fpr.xmm0[:4]) == (5, b"text")
        assert other.getGPRState().rax == 1

    run_in_child(child)


def test_stats(run_in_child: Child) -> None:
    """The counters say what happened: blocks, instructions, exits, links, misses and resets."""

    def child() -> None:
        from tests.vm.scenario import Scenario

        text = "again: nop; dec rcx; jnz again; call f; jmp end\nf: ret\nend: nop"
        scene = Scenario("pydbi", text)
        assert set(scene.vm.stats.as_dict().values()) == {0, scene.vm.stats.cache_bytes}
        scene.set(rcx=100)
        assert scene.run()
        first = scene.vm.stats
        # nop dec jnz; call; ret; jmp: the loop's block is one.
        assert (first.blocks, first.instructions) == (4, 6)
        assert first.lookup_misses == 1
        assert first.direct_exits < 10
        scene.set(rcx=100)
        assert scene.run()
        second = scene.vm.stats
        assert (second.blocks, second.instructions) == (4, 6)
        assert second.direct_exits == first.direct_exits + 1  # the one that ends the run
        assert second.lookup_misses == 1
        scene.vm.clearAllCache()
        assert scene.vm.stats.resets == 1
        scene.set(rcx=3)
        assert scene.run()
        assert scene.vm.stats.blocks == 8
        assert "blocks=8" in repr(scene.vm.stats)

    run_in_child(child)
