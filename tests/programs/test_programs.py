"""Whole programs print, write and end under pydbi as they do natively."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.programs import builds, pending
from tests.programs.cases import CASES
from tests.programs.harness import Case, Mode, difference

if TYPE_CHECKING:
    from tests.programs.conftest import Runs

_ET_EXEC = 2  # e_type in elf(5): linked at a fixed address


def missing(case: Case) -> str | None:
    """Say why *case* cannot be run here; None if it can."""
    program, *_ = case.words
    programs = [*case.needs, *([] if program[0] in "{." else [program])]
    for name in programs:
        path = shutil.which(name)
        if name.startswith("module:"):
            if importlib.util.find_spec(name.removeprefix("module:")) is None:
                return f"this Python lacks {name}"
        elif path is None:
            return f"{name} is not installed"
        elif linked_at_fixed_address(path) and linked_at_fixed_address(sys.executable):
            return f"{name} is linked at a fixed address, and so is this Python"
    for name in case.builds:
        compiler = builds.missing_compiler(name)
        if compiler is not None:
            return f"{compiler} is not installed"
    return None


@functools.cache
def linked_at_fixed_address(path: str) -> bool:
    """Tell whether an executable is an ELF file that can lie at one address only."""
    with Path(path).open("rb") as file:
        head = file.read(18)
    return head[:4] == b"\x7fELF" and int.from_bytes(head[16:18], "little") == _ET_EXEC


def parameters() -> Iterator[object]:
    """Every case in every mode, marked as what is known of it."""
    for case in CASES:
        lacking = missing(case)
        for mode in case.modes:
            marks = []
            if lacking is not None:
                marks.append(pytest.mark.skip(reason=lacking))
            why = pending.reason(case.name, mode)
            if why is not None:
                strict = pending.is_certain(case.name, mode)
                marks.append(pytest.mark.xfail(strict=strict, reason=why))
            yield pytest.param(case, mode, id=f"{case.name}: {mode.value}", marks=marks)


@pytest.mark.parametrize(("case", "mode"), list(parameters()))
def test_same_as_native(case: Case, mode: Mode, runs: Runs) -> None:
    """Output, status and files are the native run's; a counter has counted."""
    outcomes = runs.of(case)
    native, other = outcomes[Mode.NATIVE], outcomes[mode]
    assert native.status == case.status, native
    differences = difference(native, other, case.ignore)
    assert not differences, f"{mode.value}: {' '.join(case.words)[:500]}\n{differences}"
    if mode in (Mode.BLOCKS, Mode.INSTRUCTIONS):
        assert other.count, f"{mode.value}: counted {other.count}"


def test_names_are_unique_and_pending_ones_exist() -> None:
    """No two cases share a name, and every pending entry belongs to a case."""
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    known = {*names, *(f"{case.name}: {mode.value}" for case in CASES for mode in case.modes)}
    assert pending.PENDING.keys() | pending.INTERMITTENT.keys() <= known
