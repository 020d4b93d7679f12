"""Watched memory: called for what is accessed and for nothing else, and unnoticed by the guest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pydbi.jit.watch_places import SPACE, interval, merge, overlaps, places_of
from tests.exec import campaign
from tests.exec.batch import FAMILIES
from tests.exec.native_runner import vector_level
from tests.vm.test_faults import CASES

Child = Callable[..., str]


@pytest.mark.parametrize("mode", ["watched", "watched beside others"])
@pytest.mark.parametrize("family", FAMILIES)
def test_watching_is_unnoticed_and_exact(family: str, mode: str) -> None:
    """State and memory are the CPU's; the calls are those that a look at all records gives."""
    if family == "avx512" and vector_level() < 2:
        pytest.skip("this CPU has no AVX-512")
    campaign.check(family, modes=(mode,), cases=campaign.CASES // 4)


@pytest.mark.parametrize("place", ["distant", "crowded"])
def test_watching_out_of_reach(place: str) -> None:
    """The same for code that lies far from its translation."""
    campaign.check("mixed", modes=("watched",), places=(place,), cases=campaign.CASES // 4)


# What is decided at scan time.


@pytest.mark.parametrize("size", [1, 8, 64])
@pytest.mark.parametrize("displacement", [0, -8, 1000])
@pytest.mark.parametrize("window", [(0x1000, 0x1001), (0x1000, 0x2000), (4, 8), (0, SPACE - 1)])
def test_interval(window: tuple[int, int], displacement: int, size: int) -> None:
    """It holds just those values at which an access overlaps the window."""
    found = interval(window, size, displacement)
    if found is None:
        assert window[1] - window[0] + size > SPACE
        return
    low, high = found
    for edge in window:
        for value in range(edge - 70, edge + 70):
            base = (value - displacement) % SPACE
            inside = low <= base < high if low < high else base >= low or base < high
            spans = ((value + shift, value + shift + size) for shift in (-SPACE, 0, SPACE))
            assert inside == any(a < window[1] and b > window[0] for a, b in spans), value


def test_merge() -> None:
    """Windows that overlap, touch, or are near become one."""
    windows = [(30, 40), (0, 10), (10, 20), (5, 8), (50, 60)]
    assert merge(windows) == [(0, 20), (30, 40), (50, 60)]
    assert merge(windows, 10) == [(0, 60)]
    assert not overlaps(5, 0, [(0, 10)])


def test_places() -> None:
    """Base and index are told apart; what only the processor finds out is unknown."""
    (load,) = places_of(bytes.fromhex("488b5308"))  # mov rdx, [rbx + 8]
    assert load == (False, (3, None, 1), 8, False, 8)
    (store,) = places_of(bytes.fromhex("89548310"))  # mov [rbx + rax*4 + 16], edx
    assert store == (True, (3, 0, 4), 16, False, 4)
    (push,) = places_of(b"\x50")
    assert push == (True, (4, None, 1), -8, False, 8)
    (near,) = places_of(bytes.fromhex("488b0510000000"))  # mov rax, [rip + 16]
    assert near == (False, (None, None, 1), 23, True, 8)
    for unknown in ("f3a4", "64488b0425280000", "480fa303", "678b03"):
        code = bytes.fromhex(unknown)
        code += bytes(9 - len(code)) if unknown.startswith("64") else b""
        assert all(place.expression is None for place in places_of(code))


# Faults, in the block and in the far piece.


@pytest.mark.parametrize("watched", ["nothing", "everything"])
@pytest.mark.parametrize("name", CASES)
def test_faults(run_in_child: Child, name: str, watched: str) -> None:
    """Signal, address, flags and all registers are those before the instruction."""

    def child(case: tuple[str, int, int, object], watched: str) -> None:
        import pytest

        import pydbi
        from pydbi.host.memory import map_memory
        from tests.vm.scenario import Scenario

        text = case[0]
        place = "at2" if "at2" in text else "at"
        labels = "at at2 there" if place == "at2" else "at there"
        head = "add r8, 1; stc; std; lea r9, [r8 + r8]; cld; cmp r8, r9"
        source = f"{head}\nat: {text}\nnop\nthere: inc r8\nend: nop"
        seen = []
        read_only = map_memory(4096, 1)
        for watching in (False, True):
            scene = Scenario("pydbi", source, labels)
            calls: list[int] = []

            def note(vm: object, gpr: object, fpr: object, calls: object) -> object:
                calls.append(1)  # type: ignore[attr-defined]
                return pydbi.CONTINUE

            window = (0, 2**63) if watched == "everything" else (0x100, 0x200)
            if watching:
                for kind in (pydbi.MEMORY_WRITE, pydbi.MEMORY_READ_WRITE):
                    scene.vm.addMemRangeCB(*window, kind, note, calls)
            scene.set(
                rax=0x10_0000, rbx=1 << 63, rcx=3 if "rep" in text else 0, rdx=0, rsi=read_only,
                rdi=0x20_0000, r8=5, rbp=0x30_0000, r10=scene.data,
            )  # fmt: skip
            with pytest.raises(pydbi.GuestFault) as caught:
                scene.run()
            fault = caught.value
            state = [scene.register(name) for name in ("rax", "rbx", "rcx", "rdx", "rdi", "r8")]
            rsp = scene.register("rsp")
            state += [rsp if rsp < 4096 else rsp - scene.base, scene.register("eflags")]
            seen.append((fault.signal, fault.si_code, state))
            assert scene.register("rip") == scene[place]
            assert not calls or "at2" in text
        assert seen[0] == seen[1]

    run_in_child(child, CASES[name], watched)


# Callbacks.


def test_a_callback_sees_the_guest_as_it_is(run_in_child: Child) -> None:
    """Registers and flags before and after an instruction that is watched."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        source = """
            lea rsi, [rip + data]; mov ecx, 3; mov eax, 0x1234567; stc
            load: mov rax, [rsi + rcx*8]
            sum: add rax, [rsi]
            store: mov [rsi + rcx*8 + 8], rax
            end: nop
        """
        scene = Scenario("pydbi", source, "load sum store")
        seen = []

        def note(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: object, data: object) -> object:
            name = scene.where(gpr.rip)
            seen.append((data, name, gpr.rax, gpr.rcx, gpr.rsi - scene.data, gpr.eflags & 1))
            return pydbi.CONTINUE

        scene._pages[0x8000:0x8008] = b"\xff" * 8
        low, high = scene.data, scene.data + 64
        scene.vm.addMemRangeCB(low, high, pydbi.MEMORY_READ, note, "before")
        scene.vm.addMemRangeCB(low, high, pydbi.MEMORY_READ_WRITE, note, "after")
        scene.run()
        assert seen == [
            ("before", "load", 0x1234567, 3, 0, 1),
            ("after", "sum", 0, 3, 0, 1),
            ("before", "sum", 0, 3, 0, 1),
            ("after", "store", 2**64 - 1, 3, 0, 0),
            ("after", "end", 2**64 - 1, 3, 0, 0),
        ]

    run_in_child(child)


def test_all_accesses_of_a_sequence(run_in_child: Child) -> None:
    """A watch that asks for them gets its own at first, and all from the next block on."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        source = """
            lea rsi, [rip + data]; mov ecx, 3
            again: mov rax, [rsi + 64]; mov [rsi], rax; dec ecx; jnz again
            end: nop
        """
        scene = Scenario("pydbi", source)
        counts = []

        def note(vm: pydbi.VM, gpr: object, fpr: object, data: object) -> object:
            counts.append((len(vm.getInstMemoryAccess()), len(vm.getBBMemoryAccess())))
            return pydbi.CONTINUE

        scene.vm.addMemAddrCB(scene.data, pydbi.MEMORY_READ_WRITE, note, None)
        scene.run()
        assert counts == [(1, 1), (1, 2), (1, 2)]

    run_in_child(child)


def test_repeated_comparison_reads_until_it_ends(run_in_child: Child) -> None:
    """A READ watch is called for what REP CMPS and SCAS will come to, not for more."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        source = """
            lea rsi, [rip + data]; lea rdi, [rsi + 256]; mov ecx, 64
            compare: repe cmpsb
            lea rdi, [rip + data]; mov ecx, 64; mov al, 7
            search: repne scasb
            end: nop
        """
        scene = Scenario("pydbi", source, "compare search")
        scene._pages[0x8000 + 10 : 0x8000 + 11] = b"\x07"
        called = []

        def note(vm: object, gpr: pydbi.GPRState, fpr: object, data: object) -> object:
            called.append((data, scene.where(gpr.rip)))
            return pydbi.CONTINUE

        for offset in (9, 10, 11, 266, 267):
            scene.vm.addMemAddrCB(scene.data + offset, pydbi.MEMORY_READ, note, offset)
        scene.run()
        wanted = [(offset, "compare") for offset in (9, 10, 266)]
        assert called == wanted + [(offset, "search") for offset in (9, 10)]

    run_in_child(child)


def test_the_strongest_action_of_several_wins(run_in_child: Child) -> None:
    """All watches that are hit are called; a wrong result names the callback."""

    def child() -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        source = "lea rsi, [rip + data]\nat: mov [rsi], rsi\nnext: inc rax\nend: nop"
        scene = Scenario("pydbi", source, "at next")
        for name, actions in (("a", ("STOP",)), ("b", ()), ("c", ("SKIP_PATCH",))):
            callback = scene.noting(name, *actions)
            scene.vm.addMemAddrCB(scene.data + 4, pydbi.MEMORY_WRITE, callback, None)
        assert scene.run()
        assert scene.log == [("a", "next"), ("b", "next"), ("c", "next")]
        assert scene.register("rip") == scene["next"]
        scene.vm.addMemAddrCB(scene.data + 4, pydbi.MEMORY_WRITE, lambda *_: None, None)
        with pytest.raises(TypeError, match="lambda"):
            scene.run()

    run_in_child(child)


def test_many_blocks_in_small_arenas(run_in_child: Child) -> None:
    """Far pieces take their room with the blocks; what is full is made anew."""

    def child() -> None:
        import pydbi
        from tests.vm.scenario import Scenario

        parts = [f"mov [rsi + {8 * n}], rsi; test esi, esi; jz end" for n in range(900)]
        scene = Scenario("pydbi", "lea rsi, [rip + data]\n" + "\n".join(parts) + "\nend: nop")
        scene.vm._engine.cache.arena_size = 1 << 18
        calls = []

        def note(vm: object, gpr: object, fpr: object, data: object) -> object:
            calls.append(1)
            return pydbi.CONTINUE

        low = scene.data
        scene.vm.addMemRangeCB(low, low + 8 * 900, pydbi.MEMORY_WRITE, note, None)
        for _ in range(2):
            scene.run()
        assert len(calls) == 1800
        assert scene.vm.stats.resets > 0

    run_in_child(child)
