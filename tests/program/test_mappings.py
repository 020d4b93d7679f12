"""The sorted list of areas against a model: a dictionary of pages."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pydbi.program.mappings import Area, GuestMappings

PAGE = 4096
LAST = 24
spans = st.tuples(st.integers(0, LAST), st.integers(1, 6)).map(
    lambda span: (span[0] * PAGE, (span[0] + span[1]) * PAGE)
)
areas = st.builds(
    lambda span, protection, path, offset, shared: Area(
        *span, protection, path, offset * PAGE if path else 0, shared
    ),
    spans,
    st.integers(0, 7),
    st.sampled_from(["", "/a", "/b"]),
    st.integers(0, 3),
    st.booleans(),
)
actions = st.one_of(
    st.tuples(st.just("add"), areas),
    st.tuples(st.just("remove"), spans),
    st.tuples(st.just("protect"), spans, st.integers(0, 7)),
)
Page = tuple[int, str, int, bool]


def apply_to_model(model: dict[int, Page], action: tuple[Any, ...]) -> None:
    """Do to a dictionary of pages what `apply` does to areas."""
    if action[0] == "add":
        area = action[1]
        for page in range(area.start, area.end, PAGE):
            offset = area.offset + page - area.start if area.path else 0
            model[page] = (area.protection, area.path, offset, area.shared)
    for page in range(*action[1], PAGE) if action[0] != "add" else ():
        if action[0] == "remove":
            model.pop(page, None)
        elif page in model:
            model[page] = (action[2], *model[page][1:])


def apply(mappings: GuestMappings, action: tuple[Any, ...]) -> None:
    """Do *action* to areas."""
    name, what, *more = action
    if name == "add":
        mappings.add(what)
    elif name == "remove":
        mappings.remove(*what)
    else:
        mappings.protect(*what, *more)


def pages_of(areas: list[Area]) -> dict[int, Page]:
    """Return the model that *areas* amount to."""
    model: dict[int, Page] = {}
    for area in areas:
        apply_to_model(model, ("add", area))
    return model


@given(st.lists(actions, max_size=30), spans)
def test_areas_are_pages(steps: list[tuple[Any, ...]], asked: tuple[int, int]) -> None:
    """After any changes the areas say what was done to each page, and are as few as can be."""
    mappings, model = GuestMappings(), dict[int, Page]()
    for step in steps:
        apply(mappings, step)
        apply_to_model(model, step)
    result = list(mappings)
    assert pages_of(result) == model
    for before, behind in pairwise(result):
        assert before.end <= behind.start
        assert not behind.continues(before)
    low, high = asked
    inside = {page: model[page] for page in model if low <= page < high}
    assert pages_of(mappings.overlapping(low, high)) == inside
    assert mappings.is_executable(low, high) == any(page[0] & 4 for page in inside.values())
    free = {page for start, end in mappings.gaps(low, high) for page in range(start, end, PAGE)}
    assert free == set(range(low, high, PAGE)) - inside.keys()
    for page in range(0, (LAST + 8) * PAGE, PAGE):
        found = mappings.find(page + 5)
        assert (found is not None) == (page in model)
        assert found is None or found.start <= page < found.end
