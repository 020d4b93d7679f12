"""Events of blocks that share instructions, of stops inside blocks, and of a cache that changes."""

from __future__ import annotations

from typing import Any

from tests.compat.test_events import LOOP, PIECES, TURNS, EventGuest, Make, traced

__all__ = ["traced"]

WHOLE = ["21 start-end start", "10 start-end end"]
SECOND = ["21 second-end second", "10 second-end end"]
THIRD = ["21 third-end third", "10 third-end end"]


def again(events: list[str]) -> list[str]:
    """The same events when the block is not new any more."""
    return [words.replace("21 ", "5 ") for words in events]


def test_jump_into_the_middle_of_a_cached_block_is_not_new(
    traced: Make,
) -> None:
    g = traced(PIECES)
    assert g.events() == WHOLE
    assert g.events("second") == again(SECOND)
    assert g.events("third") == again(THIRD)
    assert g.events() == again(WHOLE)
    assert g.events("second") == again(SECOND)


def test_cached_tail_makes_two_sequences(traced: Make) -> None:
    g = traced(PIECES)
    assert g.events("second") == SECOND
    two = [
        "21 start-end/start-second start",
        "2 start-end/start-second second",
        "1 start-end/second-end second",
        "10 start-end/second-end end",
    ]
    assert g.events() == two
    assert g.events() == again(two)
    assert g.events("second") == again(SECOND)
    assert g.events("third") == again(THIRD)
    assert g.events() == again(two)


def test_two_cached_tails_make_three_sequences(traced: Make) -> None:
    g = traced(PIECES)
    assert g.events("third") == THIRD
    two = [
        "21 second-end/second-third second",
        "2 second-end/second-third third",
        "1 second-end/third-end third",
        "10 second-end/third-end end",
    ]
    assert g.events("second") == two
    three = [
        "21 start-end/start-second start",
        "2 start-end/start-second second",
        "1 start-end/second-third second",
        "2 start-end/second-third third",
        "1 start-end/third-end third",
        "10 start-end/third-end end",
    ]
    assert g.events() == three
    assert g.events() == again(three)
    assert g.events("second") == again(two)


def test_sequence_masks_at_an_inner_border(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    g.watch("SEQUENCE_ENTRY", name="sequence ")
    g.watch("BASIC_BLOCK_ENTRY", name="block ")
    g.watch("SEQUENCE_EXIT", name="out ")
    g.events("second")
    assert g.events() == [
        "sequence 21 start-end/start-second start",
        "block 21 start-end/start-second start",
        "out 2 start-end/start-second second",
        "sequence 1 start-end/second-end second",
        "out 10 start-end/second-end end",
    ]


def test_instruction_callbacks_between_sequences(traced: Make) -> None:
    g = traced(PIECES)
    g.on("PRE", "pre")
    g.on("POST", "post")
    g.events("second")
    assert g.events()[:7] == [
        "21 start-end/start-second start",
        ("pre", "start"),
        ("post", "second"),
        "2 start-end/start-second second",
        "1 start-end/second-end second",
        ("pre", "second"),
        ("post", "third"),
    ]


def test_stop_inside_a_block_has_no_exit(traced: Make) -> None:
    """The block is the whole one nevertheless, and is forgotten: it is new each time."""
    g = traced(PIECES)
    for stop in ("second", "second", "third"):
        assert g.events("start", stop) == ["21 start-end start"]
        assert g.get("rip") == g[stop]
    assert g.events() == WHOLE
    assert g.events("second") == again(SECOND)


def test_stop_at_the_target_of_a_branch(traced: Make) -> None:
    g = traced(LOOP)
    assert g.events("start", "after") == TURNS[:6]
    assert g.events() == again(TURNS[:6]) + TURNS[6:]


def test_stop_inside_makes_a_cached_block_new(traced: Make) -> None:
    g = traced(PIECES)
    g.events()
    assert g.events("start", "third") == ["21 start-end start"]
    assert g.events() == WHOLE


def test_range_that_ends_within_the_block(traced: Make) -> None:
    g = traced(PIECES)
    g.vm.removeInstrumentedRange(g["third"], g["end"])
    assert g.events("start", "third") == ["21 start-third start", "10 start-third third"]


def test_clear_cache_makes_new(traced: Make) -> None:
    """A block of which a part is cleared is dropped as a whole. PyQBDI drops neighbours too."""
    g = traced(LOOP)
    g.events()
    g.vm.clearCache(g["turn"], g["after"])
    assert g.events()[:6] == TURNS[:6]
    g.vm.clearCache(g["after"], g["end"])
    assert g.events()[6:] == TURNS[6:]
    g.vm.clearAllCache()
    assert g.events() == TURNS


def test_registration_of_an_event_keeps_the_cache(traced: Make) -> None:
    g = traced(LOOP)
    g.events()
    g.watch("EXEC_TRANSFER_CALL")
    assert g.events() == again(TURNS)


def test_deletion_of_an_event_keeps_the_cache(traced: Make) -> None:
    g = traced(LOOP)
    first = g.watch("EXEC_TRANSFER_CALL")
    g.events()
    g.vm.deleteInstrumentation(first)
    assert g.events() == again(TURNS)


def test_registration_of_an_instruction_callback_makes_new(
    traced: Make,
) -> None:
    g = traced(LOOP)
    g.events()
    g.on("PRE", "nothing", at="end")
    g.vm.addCodeCB(g.qbdi.PREINST, lambda *_: g.qbdi.CONTINUE, None)
    assert g.events() == TURNS


def test_registration_at_an_address_drops_the_block_there(
    traced: Make,
) -> None:
    g = traced(LOOP)
    g.events()
    g.vm.addCodeAddrCB(g["after"], g.qbdi.PREINST, lambda *_: g.qbdi.CONTINUE, None)
    assert g.events()[6:] == TURNS[6:]


def test_precached_block_is_not_new(traced: Make) -> None:
    """Its event would have been due while nothing ran; none is sent."""
    g = traced(LOOP)
    assert g.vm.precacheBasicBlock(g["after"])
    assert not g.vm.precacheBasicBlock(g["after"])
    assert g.log == []
    assert g.events() == TURNS[:6] + again(TURNS[6:])


def test_body_precached_before_the_first_pass(traced: Make) -> None:
    g = traced(LOOP)
    assert g.vm.precacheBasicBlock(g["turn"])
    assert g.events()[:5] == [
        "21 start-after/start-turn start",
        "2 start-after/start-turn turn",
        "1 start-after/turn-after turn",
        "10 start-after/turn-after turn",
        "5 turn-after turn",
    ]


def test_block_of_another_vm_is_new(qbdi: Any) -> None:
    one = EventGuest(qbdi, PIECES)
    one.watch()
    one.events()
    other = qbdi.VM()
    other.addInstrumentedRange(one.base, one["end"])
    one.vm = other
    one.watch()
    assert one.events() == WHOLE
