"""Memory maps and module names, of this process and of others."""

from __future__ import annotations

import copy
import ctypes
import itertools
import os
import pickle
from typing import Any

import pytest

from tests.compat.harness import BASE, map_at

Line = tuple[int, int, str, str]
ALLOCATORS = ("[heap]", "")
"""Maps that may change between two looks at them, because Python allocates."""


def kernel_lines(pid: int | str = "self") -> list[Line]:
    """(start, end, rights, path) of each line of /proc/PID/maps."""
    lines = []
    with open(f"/proc/{pid}/maps") as text:
        for line in text.read().splitlines():
            fields = line.split(None, 5)
            start, _, end = fields[0].partition("-")
            path = fields[5] if len(fields) > 5 else ""
            lines.append((int(start, 16), int(end, 16), fields[1][:3], path))
    return lines


def seen(qbdi: Any, maps: list[Any]) -> list[Line]:
    """The same of MemoryMap objects."""
    bits = ((qbdi.PF_READ, "r"), (qbdi.PF_WRITE, "w"), (qbdi.PF_EXEC, "x"))
    return [
        (
            m.range.start,
            m.range.end,
            "".join(letter if int(m.permission) & int(bit) else "-" for bit, letter in bits),
            m.name,
        )
        for m in maps
    ]


def of_files(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line[3].startswith("/")]


def test_maps_with_paths_are_the_kernels(qbdi: Any) -> None:
    """With full_path each map of a file has the kernel's addresses, rights and path."""
    assert of_files(seen(qbdi, qbdi.getCurrentProcessMaps(True))) == of_files(kernel_lines())


def test_names_are_base_names(qbdi: Any) -> None:
    """Without full_path a map has the file's base name."""
    expected = [(*line[:3], os.path.basename(line[3])) for line in of_files(kernel_lines())]
    found = seen(qbdi, qbdi.getCurrentProcessMaps())
    assert [line for line in found if line[3]] == expected


@pytest.mark.parametrize("name", ["[heap]", "[stack]", "[vdso]", "[vvar]"])
def test_special_maps(qbdi: Any, name: str) -> None:
    """What the kernel names in brackets has that name with full_path, and none without."""
    start = next(line[0] for line in kernel_lines() if line[3] == name)
    names = [
        next(m.name for m in qbdi.getCurrentProcessMaps(full) if m.range.start == start)
        for full in (True, False)
    ]
    assert names == [name, ""]


def test_maps_are_sorted(qbdi: Any) -> None:
    """Maps come in ascending order and do not overlap."""
    maps = qbdi.getCurrentProcessMaps()
    for first, second in itertools.pairwise(maps):
        assert first.range.end <= second.range.start


@pytest.mark.parametrize(
    ("protection", "text"),
    [(0, "---"), (1, "r--"), (3, "rw-"), (5, "r-x"), (7, "rwx")],
)
def test_permissions(qbdi: Any, protection: int, text: str) -> None:
    """A map's rights are read, write and execute, as a Permission."""
    map_at(BASE, 4096)
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(BASE), ctypes.c_size_t(4096), protection)
    (found,) = [m for m in qbdi.getCurrentProcessMaps() if m.range.start == BASE]
    assert type(found.permission) is qbdi.Permission
    assert int(found.permission) == protection  # the bits are those of PROT_READ and so on
    assert seen(qbdi, [found]) == [(BASE, BASE + 4096, text, "")]


def test_full_path_by_name(qbdi: Any) -> None:
    """The parameter is full_path; anything with a truth value that is a number or None will do."""
    paths = {m.name for m in qbdi.getCurrentProcessMaps(full_path=True)}
    assert any(name.startswith("/") for name in paths)
    names = {m.name for m in qbdi.getCurrentProcessMaps(full_path=False)}
    assert not any("/" in name for name in names)


def test_remote_maps_of_this_process(qbdi: Any) -> None:
    """Asked by its own number, this process has the same maps of files."""
    found = qbdi.getRemoteProcessMaps(os.getpid(), True)
    assert of_files(seen(qbdi, found)) == of_files(kernel_lines())


def test_remote_maps_of_the_parent(qbdi: Any) -> None:
    """The maps of another process, with paths or base names."""
    parent = os.getppid()
    expected = of_files(kernel_lines(parent))
    assert of_files(seen(qbdi, qbdi.getRemoteProcessMaps(pid=parent, full_path=True))) == expected
    names = {os.path.basename(line[3]) for line in expected}
    assert {m.name for m in qbdi.getRemoteProcessMaps(parent)} == names | {""}


@pytest.mark.parametrize("pid", [0x7FFFFFFF, 1 << 22])
def test_remote_maps_of_nobody(qbdi: Any, pid: int) -> None:
    """A process that does not exist has no maps."""
    assert qbdi.getRemoteProcessMaps(pid) == []


@pytest.mark.parametrize("pid", [-1, 1 << 64, "1", None, 1.0])
def test_what_is_no_process(qbdi: Any, pid: object) -> None:
    """Anything but an unsigned integer raises TypeError."""
    with pytest.raises(TypeError):
        qbdi.getRemoteProcessMaps(pid)


def test_module_names(qbdi: Any) -> None:
    """The base names of all mapped files, each once, sorted."""
    names = qbdi.getModuleNames()
    assert names == sorted({os.path.basename(line[3]) for line in of_files(kernel_lines())})
    assert "libc.so.6" in names


def test_map_fields_can_be_set(qbdi: Any) -> None:
    """range, permission and name of a MemoryMap can be set, to values of their type only."""
    one = qbdi.getCurrentProcessMaps()[0]
    one.range, one.permission, one.name = qbdi.Range(1, 2), qbdi.PF_WRITE, "z"
    assert (one.range, one.permission, one.name) == (qbdi.Range(1, 2), qbdi.PF_WRITE, "z")
    assert type(one.range) is qbdi.Range


def test_permission_from_an_integer(qbdi: Any) -> None:
    """Flags may be set as integers, and are flags afterwards."""
    one = qbdi.getCurrentProcessMaps()[0]
    one.permission = 5
    assert type(one.permission) is qbdi.Permission
    assert one.permission == qbdi.PF_READ | qbdi.PF_EXEC


@pytest.mark.parametrize(("field", "value"), [("range", 5), ("permission", "r"), ("name", 5)])
def test_map_fields_of_a_wrong_type(qbdi: Any, field: str, value: object) -> None:
    """Values of another type raise TypeError."""
    one = qbdi.getCurrentProcessMaps()[0]
    with pytest.raises(TypeError):
        setattr(one, field, value)


def test_map_range_is_live(qbdi: Any) -> None:
    """Changing a map's range changes the map."""
    one = qbdi.getCurrentProcessMaps()[0]
    one.range.start = 5
    assert one.range.start == 5


def test_copies_of_maps(qbdi: Any) -> None:
    """A map is copied and pickled field by field, and equal to itself only."""
    one = qbdi.getCurrentProcessMaps()[0]
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert seen(qbdi, [other]) == seen(qbdi, [one])
        assert other != one
        other.name = "changed"
        assert one.name != "changed"


def test_text_of_a_map(qbdi: Any) -> None:
    """repr and str show addresses in hexadecimal, rights and name."""
    one = qbdi.getCurrentProcessMaps()[0]
    one.range, one.name = qbdi.Range(0x1000, 0x2000), "libc.so.6"
    one.permission = qbdi.PF_READ | qbdi.PF_EXEC
    text = '<MemoryMap [1000, 2000), Permission.PF_READ|PF_EXEC, "libc.so.6">'
    assert (repr(one), str(one)) == (text, text)
