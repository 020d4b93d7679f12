"""Memory maps."""

from __future__ import annotations

import ctypes
import os

import pytest

import pydbi
from pydbi.host import maps


def test_maps_are_those_of_the_kernel() -> None:
    """Every line of /proc/self/maps is a record, in its order."""
    records = pydbi.getRemoteProcessMaps(os.getpid(), full_path=True)
    assert records
    for record, mapping in zip(records, maps.read_mappings(), strict=False):
        assert (record.range.start, record.range.end) == (mapping.start, mapping.end)
        assert record.name == mapping.path


def test_names_are_base_names() -> None:
    """A map is named by its file's base name; heap, stack and anonymous memory have no name."""
    records = pydbi.getCurrentProcessMaps()
    assert any(record.name.startswith("libc.so") for record in records)
    assert not any("/" in record.name or "[" in record.name for record in records)
    full = {record.name for record in pydbi.getCurrentProcessMaps(True)}
    assert "[stack]" in full
    assert any(name.startswith("/") and "libc.so" in name for name in full)


def test_code_is_executable() -> None:
    """The map of a function has the permissions to read and execute."""
    address = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    (record,) = (r for r in pydbi.getCurrentProcessMaps() if address in r.range)
    assert record.permission == pydbi.PF_READ | pydbi.PF_EXEC
    assert any(start <= address < end for start, end, _ in maps.executable_ranges())


def test_same_as_pyqbdi() -> None:
    """Records, their order and their text are PyQBDI's."""
    pyqbdi = pytest.importorskip("pyqbdi")
    pid = os.getppid()  # another process, whose maps do not change while it waits for us
    for full_path in (False, True):
        ours = pydbi.getRemoteProcessMaps(pid, full_path)
        assert list(map(repr, ours)) == list(map(repr, pyqbdi.getRemoteProcessMaps(pid, full_path)))
    assert pydbi.getModuleNames() == pyqbdi.getModuleNames()


def test_process_that_does_not_exist() -> None:
    """A process that does not exist has no maps."""
    assert pydbi.getRemoteProcessMaps(2**30) == []
    with pytest.raises(TypeError):
        pydbi.getRemoteProcessMaps("self")  # type: ignore[arg-type]


def test_gaps_are_free() -> None:
    """Gaps overlap no map, and each other neither."""
    end = 0
    mapped = [pydbi.Range(m.start, m.end) for m in maps.read_mappings()]
    for low, high in maps.gaps():
        assert end <= low < high
        end = high
        assert not any(pydbi.Range(low, high).overlaps(other) for other in mapped)
