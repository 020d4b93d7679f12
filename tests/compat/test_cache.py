"""The translation cache: what makes translations, what drops them, and what that shows in."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from tests.compat.harness import either, fate, wrong
from tests.compat.test_events import LOOP, PIECES, TURNS, EventGuest

CONSTANT = "mov eax, 5\nlast: jmp end"
"""Code whose result is its second byte."""


def change(g: EventGuest, value: int) -> None:
    """Write the constant in `CONSTANT`."""
    ctypes.memmove(g.base + 1, bytes([value]), 1)


def result(g: EventGuest) -> int:
    """Run and return rax."""
    g.run()
    return g.get("rax")


def test_precache_says_whether_it_translated(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    assert g.vm.precacheBasicBlock(g.base) is True
    assert g.vm.precacheBasicBlock(g.base) is False


def test_precache_of_the_middle_of_a_cached_block(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    g.vm.precacheBasicBlock(g.base)
    assert g.vm.precacheBasicBlock(g["second"]) is False
    assert g.vm.precacheBasicBlock(g["third"]) is False


def test_precache_of_what_has_been_executed(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.run()
    assert g.vm.precacheBasicBlock(g.base) is False
    assert g.vm.precacheBasicBlock(g["after"]) is False
    g.vm.clearAllCache()
    assert g.vm.precacheBasicBlock(g["after"]) is True


def test_precache_of_one_block_only(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.vm.precacheBasicBlock(g.base)
    assert g.vm.getCachedInstAnalysis(g["turn"]).mnemonic == "INC64r"
    assert g.vm.getCachedInstAnalysis(g["after"]) is None


def test_precache_inside_an_instruction(qbdi: Any) -> None:
    """What begins there is another instruction."""
    g = EventGuest(qbdi, "mov eax, 0x9090\njmp end")
    assert g.vm.precacheBasicBlock(g.base) is True
    assert g.vm.precacheBasicBlock(g.base + 1) is True
    assert g.vm.getCachedInstAnalysis(g.base).mnemonic == "MOV32ri"
    assert g.vm.getCachedInstAnalysis(g.base + 1).mnemonic == "NOOP"


def test_precache_executes_nothing(qbdi: Any) -> None:
    g = EventGuest(qbdi, CONSTANT)
    g.on("PRE", "pre")
    g.watch()
    g.set(rax=1, rip=7)
    g.vm.precacheBasicBlock(g.base)
    assert g.log == []
    assert (g.get("rax"), g.get("rip")) == (1, 7)


def test_precached_code_runs(qbdi: Any) -> None:
    g = EventGuest(qbdi, CONSTANT)
    g.vm.precacheBasicBlock(g.base)
    change(g, 7)
    assert result(g) == either(
        qbdi, pyqbdi=5, right=7, reason="it does not notice that code was changed"
    )


def test_precached_code_has_its_callbacks(qbdi: Any) -> None:
    g = EventGuest(qbdi, CONSTANT)
    g.on("PRE", "pre")
    g.vm.precacheBasicBlock(g.base)
    g.run()
    assert g.log == [("pre", "start"), ("pre", "last")]


@pytest.mark.parametrize("address", [0, 0x123456789000, (1 << 64) - 1])
def test_precache_of_memory_that_is_not_there(qbdi: Any, address: int) -> None:
    g = EventGuest(qbdi, PIECES)
    if wrong(qbdi, "it ends the process"):
        assert fate(g.vm.precacheBasicBlock, address) == "SIGSEGV"
    else:
        assert g.vm.precacheBasicBlock(address) is False


def test_precache_of_instrumented_memory_that_is_not_there(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    g.vm.addInstrumentedRange(0x123456789000, 0x12345678A000)
    if wrong(qbdi, "it ends the process"):
        assert fate(g.vm.precacheBasicBlock, 0x123456789000) == "SIGSEGV"
    else:
        with pytest.raises(qbdi.GuestFault):
            g.vm.precacheBasicBlock(0x123456789000)


def test_precache_of_code_that_is_not_instrumented(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    g.vm.removeInstrumentedRange(g["third"], g["end"])
    assert g.vm.precacheBasicBlock(g["third"]) is either(
        qbdi, pyqbdi=True, right=False, reason="it is translated, though it is not instrumented"
    )


def test_precache_in_a_callback(qbdi: Any) -> None:
    """pydbi does it."""
    g = EventGuest(qbdi, LOOP)
    answers = []

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        answers.append(vm.precacheBasicBlock(g["after"]))
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["turn"], qbdi.PREINST, callback, None)
    if wrong(qbdi, "it ends the process"):
        assert fate(g.run) == "SIGABRT"
    else:
        g.run()
        assert answers == [True, False, False]
        assert g.get("rax") == 3


@pytest.mark.parametrize("address", [-1, 1 << 64, None, "x"])
def test_wrong_addresses_are_a_type_error(qbdi: Any, address: Any) -> None:
    vm = qbdi.VM()
    with pytest.raises(TypeError):
        vm.precacheBasicBlock(address)
    with pytest.raises(TypeError):
        vm.clearCache(address, 5)
    with pytest.raises(TypeError):
        vm.clearCache(5, address)


@pytest.mark.parametrize("number", [-1, 1 << 32, None, "x"])
def test_wrong_numbers_are_a_type_error(qbdi: Any, number: Any) -> None:
    with pytest.raises(TypeError):
        qbdi.VM().reduceCacheTo(number)


def test_changed_code(qbdi: Any) -> None:
    """By default, if it is writable."""
    g = EventGuest(qbdi, CONSTANT)
    assert result(g) == 5
    change(g, 7)
    assert result(g) == either(
        qbdi, pyqbdi=5, right=7, reason="it does not notice that code was changed"
    )


def _clear_all(g: Any) -> None:
    g.vm.clearAllCache()


def _clear_first_byte(g: Any) -> None:
    g.vm.clearCache(g.base, g.base + 1)


def _clear_last_byte(g: Any) -> None:
    g.vm.clearCache(g["end"] - 1, g["end"])


def _clear_everything(g: Any) -> None:
    g.vm.clearCache(0, (1 << 64) - 1)


def _reduce(g: Any) -> None:
    g.vm.reduceCacheTo(0)


def _options(g: Any) -> None:
    g.vm.options = g.qbdi.OPT_DISABLE_ERRNO_BACKUP


def _callback(g: Any) -> None:
    g.vm.addCodeCB(g.qbdi.PREINST, lambda *_: g.qbdi.CONTINUE, None)


def _callback_there(g: Any) -> None:
    g.vm.addCodeAddrCB(g["last"], g.qbdi.PREINST, lambda *_: g.qbdi.CONTINUE, None)


def _mnemonic(g: Any) -> None:
    g.vm.addMnemonicCB("MOV*", g.qbdi.PREINST, lambda *_: g.qbdi.CONTINUE, None)


def _rule(g: Any) -> None:
    g.vm.addInstrRule(lambda *_: [], g.qbdi.ANALYSIS_INSTRUCTION, None)


def _recording(g: Any) -> None:
    g.vm.recordMemoryAccess(g.qbdi.MEMORY_READ)


def _access(g: Any) -> None:
    g.vm.addMemAccessCB(g.qbdi.MEMORY_WRITE, lambda *_: g.qbdi.CONTINUE, None)


def _clear_elsewhere(g: Any) -> None:
    g.vm.clearCache(g.base + 0x1000, g.base + 0x2000)


def _clear_neighbour(g: Any) -> None:
    g.vm.clearCache(g["end"], g["end"] + 16)


def _register(g: Any) -> None:
    g.set(rbx=5)


DROPS = [
    _clear_all,
    _clear_first_byte,
    _clear_last_byte,
    _clear_everything,
    _reduce,
    _options,
    _callback,
    _callback_there,
    _mnemonic,
    _rule,
    _recording,
    _access,
]
KEEPS = [_clear_elsewhere, _clear_neighbour, _register]


@pytest.mark.parametrize("drop", DROPS, ids=lambda function: function.__name__)
def test_what_drops_a_translation(qbdi: Any, drop: Any) -> None:
    g = EventGuest(qbdi, CONSTANT)
    assert result(g) == 5
    change(g, 7)
    drop(g)
    assert result(g) == 7


@pytest.mark.parametrize("keep", KEEPS, ids=lambda function: function.__name__)
def test_what_keeps_a_translation(qbdi: Any, keep: Any) -> None:
    g = EventGuest(qbdi, CONSTANT)
    assert result(g) == 5
    change(g, 7)
    keep(g)
    assert result(g) == either(
        qbdi, pyqbdi=5, right=7, reason="it does not notice that code was changed"
    )


def test_deletion_of_a_callback_drops_its_blocks(qbdi: Any) -> None:
    g = EventGuest(qbdi, CONSTANT)
    number = g.on("PRE", "x")
    assert result(g) == 5
    change(g, 7)
    g.vm.deleteInstrumentation(number)
    assert result(g) == 7


def test_clear_of_the_running_block(qbdi: Any) -> None:
    """It goes on to its end, and is translated anew when it is entered again."""
    g = EventGuest(qbdi, LOOP)

    def clear(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        vm.clearCache(g.base, g["end"])
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["turn"], qbdi.PREINST, clear, None)
    g.watch("BASIC_BLOCK_ENTRY")
    assert g.events() == [
        "21 start-after start",
        "21 turn-after turn",
        "21 turn-after turn",
        "21 after-end after",
    ]
    assert g.get("rax") == 3


def test_clear_all_in_a_callback(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)

    def clear(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        vm.clearAllCache()
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["turn"], qbdi.POSTINST, clear, None)
    g.watch("BASIC_BLOCK_ENTRY")
    assert [words[:2] for words in g.events()] == ["21"] * 4
    assert g.get("rax") == 3


def test_clear_all_in_an_event_callback(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch(then=lambda gpr: g.vm.clearAllCache())
    assert g.events() == [words.replace("5 ", "21 ") for words in TURNS]
    assert g.get("rax") == 3


def test_count_of_blocks(qbdi: Any) -> None:
    """What one of them is differs; none is nothing."""
    g = EventGuest(qbdi, LOOP)
    assert g.vm.getNbExecBlock() == 0
    g.run()
    count = g.vm.getNbExecBlock()
    assert isinstance(count, int)
    assert count > 0
    g.run()
    assert g.vm.getNbExecBlock() == count
    g.vm.clearAllCache()
    assert g.vm.getNbExecBlock() == either(
        qbdi, pyqbdi=1, right=0, reason="it counts one that is empty"
    )


def test_count_after_precaching(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.vm.precacheBasicBlock(g.base)
    assert g.vm.getNbExecBlock() > 0


def test_reduced_to_nothing(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.run()
    g.vm.reduceCacheTo(0)
    assert g.vm.getNbExecBlock() == 0
    assert g.vm.getCachedInstAnalysis(g.base) is None
    g.watch()
    assert g.events() == TURNS


def test_reduced_to_more_than_there_is(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.run()
    count = g.vm.getNbExecBlock()
    g.vm.reduceCacheTo(1000)
    assert g.vm.getNbExecBlock() == count
    assert g.vm.getCachedInstAnalysis(g.base).mnemonic == "MOV32ri"


def test_reduced_to_a_number(qbdi: Any) -> None:
    """At most as many are left."""
    g = EventGuest(qbdi, "\n".join(f"jmp label{i}\nlabel{i}:" for i in range(200)))
    g.on("PRE", "x")
    g.run()
    g.vm.reduceCacheTo(1)
    assert g.vm.getNbExecBlock() <= 1
    g.log.clear()
    g.run()
    assert len(g.log) == 200


def test_vms_have_their_own_caches(qbdi: Any) -> None:
    g = EventGuest(qbdi, CONSTANT)
    assert result(g) == 5
    change(g, 7)
    mine, g.vm = g.vm, qbdi.VM()
    g.vm.addInstrumentedRange(g.base, g["end"])
    assert result(g) == 7
    g.vm.clearAllCache()
    g.vm = mine
    assert result(g) == either(
        qbdi, pyqbdi=5, right=7, reason="it does not notice that code was changed"
    )


def test_cleared_many_times(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    for _ in range(200):
        g.run()
        g.vm.clearAllCache()
    assert g.get("rax") == 600
    assert g.vm.getNbExecBlock() == either(
        qbdi, pyqbdi=1, right=0, reason="it counts one that is empty"
    )
