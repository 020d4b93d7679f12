"""Several VMs at once: in one thread, in many, and coming and going; none disturbs another."""

from __future__ import annotations

import ctypes
import gc
import random
import threading
import time
from typing import Any

import pytest

import pydbi
from tests.compat.harness import BASE, Guest
from tests.jit.maze import Maze, machine, map_code, slots
from tests.survive.fates import check_fate

LOOP = "a: inc rbx; add rdx, rbx; mov [rip + data], rdx; dec rcx; jnz a"


def guest_at(number: int, qbdi: Any = pydbi, vm: Any = None) -> Guest:
    """A guest at an address of its own."""
    return Guest(qbdi, LOOP, at=BASE - (number + 1 << 28), vm=vm)


def run(g: Guest, rounds: int = 20) -> None:
    """Run and check what is computed."""
    g.set(rbx=0, rdx=0, rcx=rounds)
    assert g.run()
    assert (g.get("rbx"), g.get("rdx")) == (rounds, rounds * (rounds + 1) // 2)


def test_ids_are_each_vms_own(qbdi: Any) -> None:
    """Ids begin at 0 in each VM; deleting one's callbacks leaves the other's alone."""

    def use() -> None:
        guests = [guest_at(number, qbdi) for number in range(3)]
        for g in guests:
            assert g.on("PRE", "pre") == 0
            assert g.on("POST", "post") == 1
        guests[1].vm.deleteAllInstrumentations()
        guests[2].vm.deleteInstrumentation(0)
        for g in guests:
            run(g)
        assert [len(g.log) for g in guests] == [200, 0, 100]

    check_fate(qbdi, use, pyqbdi="SIGSEGV", right="lives", reason="they share ids")


def test_the_same_code_in_several_vms() -> None:
    """VMs with other callbacks on the same code; clearing one's cache leaves the others'."""
    first = guest_at(0)
    others = []
    for number in range(8):
        vm = pydbi.VM()
        vm.addInstrumentedRange(first["start"], first["end"])
        counts: list[int] = []

        def count(vm: Any, gpr: Any, fpr: Any, data: list[int]) -> pydbi.VMAction:
            data.append(gpr.rcx)
            return pydbi.CONTINUE

        vm.addCodeAddrCB(first["start"] + 3 * (number & 1), pydbi.PREINST, count, counts)
        others.append((vm, counts))
    for turn in range(4):
        for vm, counts in others:
            gpr = vm.getGPRState()
            gpr.rcx, gpr.rbx, gpr.rdx, gpr.rsp = 10, 0, 0, first.stack_top
            assert vm.run(first["start"], first["end"])
            assert gpr.rdx == 55
            assert counts == list(range(10, 0, -1))
            counts.clear()
        others[turn][0].clearAllCache()
    run(first)
    assert not first.log


def test_threads_with_everything() -> None:
    """Threads that make VMs, run, fault, time out, are stopped, and let go of them, at once."""
    failures: list[BaseException] = []
    done = []

    def work(number: int) -> None:
        rng = random.Random(number)
        try:
            for turn in range(6):
                g = guest_at(100 * number + turn)
                calls: list[int] = []
                vm = g.vm
                if turn % 2:
                    vm.addCodeCB(pydbi.PREINST, lambda *_, c=calls: c.append(1) or pydbi.CONTINUE,
                                 None)  # fmt: skip
                for _ in range(5):
                    run(g, rng.randrange(5, 300))
                assert bool(calls) == bool(turn % 2)
                vm.deleteAllInstrumentations()
                g.set(rbx=0, rdx=0, rcx=1 << 62)
                with pytest.raises(pydbi.GuestTimeout):
                    vm.run(g["start"], g["end"], timeout=0.003)
                total = g.get("rbx")
                sums = (total * (total + 1) // 2, total * (total - 1) // 2)
                assert g.get("rdx") in {value & (1 << 64) - 1 for value in sums}
                vm.addInstrumentedRange(0, 4096)
                with pytest.raises(pydbi.GuestFault) as caught:
                    vm.run(8, 16)
                assert caught.value.app_address == 8
                run(g)
            done.append(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert sorted(done) == list(range(5))


def test_stopping_one_of_several() -> None:
    """`stop` of one VM's run does not touch those of other threads."""
    endless, limited = guest_at(0), guest_at(1)
    endless.set(rcx=1 << 62)
    results = []
    thread = threading.Thread(target=lambda: results.append(endless.run()))
    thread.start()
    while not endless.vm._dispatcher.running:
        time.sleep(0.001)
    for _ in range(3):
        run(limited, 1_000_000)
    assert not results
    endless.vm.stop()
    run(limited, 1_000_000)
    thread.join(5)
    assert results == [True]


def test_one_vm_from_two_threads() -> None:
    """A VM that runs on one thread refuses another, and goes on undisturbed."""
    g = guest_at(0)
    g.set(rbx=0, rdx=0, rcx=1 << 62)
    thread = threading.Thread(target=g.run)
    thread.start()
    while not g.vm._dispatcher.running:
        time.sleep(0.001)
    refused = 0
    for _ in range(20):
        for again in (
            lambda: g.vm.run(g["start"], g["end"]),
            lambda: g.vm.call(g["start"], []),
            lambda: g.vm.run(g["start"], g["end"], timeout=1),
        ):
            try:
                again()
            except pydbi.ReentryError:
                refused += 1
    g.vm.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert refused == 60
    run(g)


def test_native_code_with_a_gs_base() -> None:
    """After a VM has run on a thread, native code there may use GS for itself."""
    g = Guest(pydbi, "nop")
    assert g.run()
    code = Guest(
        pydbi,
        "push rbx; lea rax, [rip + data + 0x7ff0]; wrgsbase rax; mov rbx, rdi;"
        "a: inc qword ptr gs:[8]; dec rbx; jnz a; mov rax, gs:[8]; xor ecx, ecx; wrgsbase rcx;"
        "pop rbx; ret",
        at=BASE - (1 << 32),
    )
    function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(code["start"])
    begin = time.monotonic()
    total = 0
    while time.monotonic() - begin < 0.3:
        total += 10_000_000
        assert function(10_000_000) == total


def test_mazes_in_threads_with_collections() -> None:
    """Mazes in threads, while others make and drop VMs and collect garbage."""
    failures: list[BaseException] = []
    ending = threading.Event()

    def walk(number: int) -> None:
        try:
            vm = machine()
            maze = Maze(slots(map_code(1 << 16), 30), number)
            for turn in range(60):
                maze.check(vm, turn % maze.count, 500)
                if turn % 10 == 9:
                    vm.clearAllCache()
        except BaseException as error:
            failures.append(error)

    def drop() -> None:
        try:
            while not ending.is_set():
                vm = pydbi.VM()
                vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, vm)
                del vm
                gc.collect(0)
        except BaseException as error:
            failures.append(error)

    dropper = threading.Thread(target=drop)
    dropper.start()
    threads = [threading.Thread(target=walk, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ending.set()
    dropper.join()
    assert not failures, failures


def test_threads_that_end() -> None:
    """Hundreds of threads that ran a VM end; neither stacks nor timers of theirs are left."""
    g = guest_at(0)

    def work() -> None:
        run(g)

    def timers() -> int:
        with open("/proc/self/timers") as lines:
            return sum(line.startswith("ID:") for line in lines)

    def mappings() -> int:
        with open("/proc/self/maps") as lines:
            return len(lines.readlines())

    for _ in range(5):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    gc.collect()
    before = timers(), mappings()
    for _ in range(300):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    gc.collect()
    assert timers() <= before[0]
    assert mappings() <= before[1] + 10
