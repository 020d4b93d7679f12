"""Which pages of pydbi are executable, that none need be writable too, and what a fork makes of it.

The tests are named in ``docs/design/transparency.md`` under "Pages".
"""

from __future__ import annotations

import ctypes
import json
import os
import threading

import pytest

import pydbi
from tests.child import run_in_child
from tests.survive.host_traces import guest_of

COUNTING = "a: inc rbx; call f; dec rcx; jnz a; jmp end; f: add rdx, rbx; ret"


def _print_new_pages(twice: bool) -> None:
    """Print the protection and the owners of each mapping that pydbi adds, in a new process."""
    import json
    import re

    def mappings() -> dict[str, str]:
        with open("/proc/self/maps") as lines:
            found = (re.match(r"(\S+) (\S+) \S+ \S+ \S+ *(/memfd.*|)$", line) for line in lines)
            return {match[1]: match[2] for match in found if match}

    before = mappings()
    import pydbi
    from tests.survive.host_traces import guest_of, host_ranges

    g = guest_of("a: inc rbx; mov [rip + data], rbx; loop a; mov eax, 39; syscall")

    def go_on(vm: pydbi.VM, *_: object) -> pydbi.VMAction:
        vm.getInstMemoryAccess()
        return pydbi.CONTINUE

    g.vm.mapCodeTwice = twice
    g.vm.addCodeCB(pydbi.PREINST, go_on, None)
    g.vm.addMemAccessCB(pydbi.MEMORY_READ_WRITE, go_on, None)
    g.vm.addVMEventCB(pydbi.SEQUENCE_EXIT, go_on, None)
    g.set(rcx=5)
    assert g.run()
    new = []
    for place, protection in mappings().items():
        low, high = (int(bound, 16) for bound in place.split("-"))
        if before.get(place) != protection and not low <= g.base < high:
            owners = [name for name, (a, b) in host_ranges(g.vm).items() if a < high and low < b]
            new.append([protection, owners])
    print(json.dumps(new))


def new_pages(twice: bool) -> list[tuple[str, list[str]]]:
    """Protection and owners of each mapping without a file that a VM at work adds."""
    return [
        (protection, names)
        for protection, names in json.loads(run_in_child(_print_new_pages, twice))
    ]


def test_only_the_cache_is_writable_and_executable() -> None:
    """By default the cache's arenas are, and nothing else."""
    writable = [names for protection, names in new_pages(False) if protection.startswith("rwx")]
    assert len(writable) == 1
    assert writable[0][0] == "arena 0"


def test_nothing_is_writable_and_executable() -> None:
    """With `mapCodeTwice` nothing is, and the arena is there twice."""
    pages = new_pages(True)
    assert not [names for protection, names in pages if "wx" in protection]
    assert ("r-xs", ["arena 0"]) in pages
    assert ("rw-s", ["arena 0, where it is written"]) in pages


@pytest.mark.parametrize("twice", [False, True])
def test_data_is_not_executable(twice: bool) -> None:
    """Contexts, records, vectors and tables are data; stubs and thunks are not writable."""
    pages = new_pages(twice)
    data = {"context", "gate records", "vectors", "second-level table", "table of system calls"}
    seen = set()
    for protection, names in pages:
        seen.update(names)
        if data & set(names):
            assert protection == "rw-p", names
        if {"stubs", "thunk"} & set(names):
            assert protection == "r-xp", names
    assert data | {"stubs", "thunk"} <= seen


def test_setting_it_anew() -> None:
    """It can be changed between runs; the cache is empty then, and addresses stay."""
    g = guest_of(COUNTING)
    for turn in range(20):
        g.vm.mapCodeTwice = turn % 3 == 0
        assert g.vm.mapCodeTwice is (turn % 3 == 0)
        g.set(rbx=0, rdx=0, rcx=10)
        assert g.run()
        assert g.get("rdx") == 55
        assert g.vm.stats.cache_bytes < 20_000
    assert len(g.vm._engine.cache.arenas) == 1


def test_setting_it_from_a_callback() -> None:
    """While the guest runs it cannot be changed, and nothing else may be given."""
    g = guest_of(COUNTING)

    def change(vm: pydbi.VM, *_: object) -> pydbi.VMAction:
        vm.mapCodeTwice = True
        return pydbi.CONTINUE

    g.vm.addCodeAddrCB(g["a"], pydbi.PREINST, change, None)
    with pytest.raises(pydbi.ReentryError):
        g.run()
    assert g.vm.mapCodeTwice is False
    for value in (1, None, "yes"):
        with pytest.raises(TypeError):
            g.vm.mapCodeTwice = value


# Forks: the memory of a file is shared, unless Python hears of the fork.


def test_a_forked_child_has_code_of_its_own() -> None:
    """Parent and child both go on with what is translated, and translate more, at the same time."""
    g = guest_of(COUNTING)
    g.vm.mapCodeTwice = True
    g.set(rbx=0, rdx=0, rcx=10)
    assert g.run()
    blocks = g.vm.stats.blocks
    child = os.fork()
    for turn in range(300):
        if turn % 3 == (0 if child else 1):
            g.vm.clearCache(g["start"], g["end"])
        if turn % 5 == (1 if child else 2):
            g.vm.addCodeAddrCB(g["f"], pydbi.PREINST, lambda *_: pydbi.CONTINUE, None)
        g.set(rbx=0, rdx=0, rcx=10)
        assert g.run()
        assert g.get("rdx") == 55
        assert turn or not child or g.vm.stats.blocks > blocks
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_fork_in_a_callback() -> None:
    """So they do if the fork comes in the middle of a run."""
    g = guest_of(COUNTING)
    g.vm.mapCodeTwice = True
    child = -1

    def fork(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: object, data: object) -> pydbi.VMAction:
        nonlocal child
        if gpr.rcx == 5:
            child = os.fork()
        return pydbi.CONTINUE

    g.vm.addCodeAddrCB(g["f"], pydbi.PREINST, fork, None)
    g.set(rbx=0, rdx=0, rcx=10)
    assert g.run()
    assert g.get("rdx") == 55
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_forks_leave_nothing_open() -> None:
    """Neither the mapping nor a fork leaves a descriptor behind."""
    before = os.listdir("/proc/self/fd")
    g = guest_of(COUNTING)
    g.vm.mapCodeTwice = True
    g.set(rcx=3)
    assert g.run()
    child = os.fork()
    if not child:
        os._exit(0 if os.listdir("/proc/self/fd") == before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert os.listdir("/proc/self/fd") == before


def test_forks_while_a_guest_runs() -> None:
    """Forks come while the guest of another thread runs and is translated."""
    g = guest_of(COUNTING)
    g.vm.mapCodeTwice = True
    stop = threading.Event()
    failed: list[object] = []

    def work() -> None:
        while not stop.is_set():
            g.vm.clearAllCache()
            g.set(rbx=0, rdx=0, rcx=10)
            if not g.run() or g.get("rdx") != 55:
                failed.append(g.get("rdx"))

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    worker.join()
    assert not failed


@pytest.mark.parametrize("call", ["mov eax, 57; syscall", "call [rip + data]"])
def test_forks_of_the_guest(call: str) -> None:
    """The guest forks itself, or by libc's function: both go on, the child with code of its own."""
    g = guest_of(f"{call}; mov rsi, rax; mov rcx, 10; {COUNTING}")
    fork = ctypes.cast(ctypes.CDLL(None).fork, ctypes.c_void_p).value
    assert fork
    for twice in (True, False):
        g.vm.mapCodeTwice = twice
        for _ in range(2):
            g.write(0, fork.to_bytes(8, "little"))
            g.set(rbx=0, rdx=0)
            assert g.run()
            assert g.get("rdx") == 55
            child = g.get("rsi")
            if not child:
                g.set(rbx=0, rcx=10)
                assert g.run("a")
                os._exit(g.get("rdx"))
            status = os.waitpid(child, 0)[1]
            assert os.waitstatus_to_exitcode(status) == 110
