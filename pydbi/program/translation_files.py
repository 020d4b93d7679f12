"""The files that hold translations: where they are, what makes one fit, and what is in it."""

from __future__ import annotations

import marshal
import os
import stat
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pydbi.jit
import pydbi.x86
from pydbi.host import cpu
from pydbi.jit.app_memory import PAGE_SIZE
from pydbi.jit.snapshot import Layer, Snapshot
from pydbi.program.kernel import note

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

VARIABLE = "PYDBI_CACHE"
"""The environment variable: a folder, or ``off``."""
LARGEST_FOLDER = 1 << 29
"""Bytes of files that a folder may hold; then those used least recently go."""
LARGEST_FILE = 1 << 27
_FORMAT = 1
_MAGIC = b"pydbi\0\r\n"
_HEADER = struct.Struct("<8sIIIIII")
"""Magic; CRC-32 of all that follows but the pages; sizes of key, tables, code, data and pages."""
_COVERED_FROM = 12
_SUFFIX = ".translations"
_LONGEST_NAME = 64
_MARSHAL_VERSION = 2
"""The latest that does not look for objects that are the same, which costs time and saves none."""


class _Damaged(Exception):  # noqa: N818
    """A file is not what was written, or not for this process."""


def default_folder() -> str | None:
    """Return where files are kept, as the environment says; None: nowhere."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "off":
        return None
    if wanted:
        return os.path.abspath(wanted)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as its specification has it
        base = os.path.expanduser("~/.cache")
        if not os.path.isdir(os.path.dirname(base)):
            return None  # no home, no folder in it
    return os.path.join(base, "pydbi") if os.path.isabs(base) else None


def name_file(engine: Engine, folder: str, program: bytes) -> tuple[str, bytes]:
    """Return the path of the file for *program*, a path, and the key that it must have.

    Raises:
        OSError: pydbi's own files cannot be looked at.
    """
    where: Any = (program, _features(engine))
    everything: Any = (_FORMAT, where, _sources())
    place = zlib.crc32(marshal.dumps(where, _MARSHAL_VERSION))
    name = os.path.basename(program).decode(errors="replace")[:_LONGEST_NAME]
    path = os.path.join(folder, f"{name}-{place:08x}{_SUFFIX}")
    return path, marshal.dumps(everything, _MARSHAL_VERSION)


def _features(engine: Engine) -> tuple[object, ...]:
    """Return what translations depend on, of the processor and of the engine."""
    facts = cpu.cpu()
    of_cpu = (facts.vendor, facts.xcr0, facts.avx, facts.avx512, facts.rtm, facts.bmi2)
    return (*of_cpu, facts.fsgsbase, engine.cache.arena_size)


def _sources() -> list[tuple[str, list[tuple[str, int, int, int]]]]:
    """Return what changes whenever the code that translates does.

    Raises:
        OSError: it cannot be looked at, perhaps because it is in an archive.
    """
    folders = (*pydbi.jit.__path__, *pydbi.x86.__path__)
    return [(folder, _state_of(folder)) for folder in folders]


def _state_of(folder: str) -> list[tuple[str, int, int, int]]:
    """Return what changes whenever a file in *folder* does."""
    with os.scandir(folder) as entries:
        files = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return sorted((name, now.st_ino, now.st_size, now.st_ctime_ns) for name, now in files)


def _encode(snapshot: Snapshot, key: bytes) -> list[bytes]:
    """Return the parts of a file."""
    bare = [layer._replace(code=b"") for layer in snapshot.layers]
    fields = snapshot._replace(code=b"", data=b"", layers=())
    contents: Any = (tuple(fields), [tuple(layer) for layer in bare])
    parts = [key, marshal.dumps(contents, _MARSHAL_VERSION), snapshot.code, snapshot.data]
    pages = b"".join(layer.code for layer in snapshot.layers)
    sizes = [*map(len, parts), len(pages)]
    header = _HEADER.pack(_MAGIC, 0, *sizes)
    checksum = zlib.crc32(header[_COVERED_FROM:])
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return [_HEADER.pack(_MAGIC, checksum, *sizes), *parts, pages]


def _decode(data: bytes, key: bytes) -> Snapshot:
    """Return what is in a file.

    Pages have no checksum: they are compared with the guest's memory.

    Raises:
        _Damaged: it is damaged, or has another key.
    """
    if len(data) < _HEADER.size:
        raise _Damaged("it is too short")
    magic, checksum, *sizes = _HEADER.unpack_from(data)
    if magic != _MAGIC or len(data) != _HEADER.size + sum(sizes):
        raise _Damaged("it is not whole")
    view = memoryview(data)
    if zlib.crc32(view[_COVERED_FROM : len(data) - sizes[-1]]) != checksum:
        raise _Damaged("its checksum is wrong")
    parts = []
    place = _HEADER.size
    for size in sizes:
        parts.append(view[place : place + size])
        place += size
    if parts[0] != key:
        raise _Damaged("it is for other circumstances")
    fields, tables = marshal.loads(parts[1])
    layers = []
    place = 0
    for table in tables:
        layer = Layer(*table)
        end = place + len(layer.pages) * PAGE_SIZE
        layers.append(layer._replace(code=bytes(parts[4][place:end])))
        place = end
    code, data = bytes(parts[2]), bytes(parts[3])
    return Snapshot(*fields)._replace(code=code, data=data, layers=tuple(layers))


def read(path: str, key: bytes) -> Snapshot | None:
    """Return what is in the file at *path*; None if it is not there, or not to be used."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        note("translations cannot be read: %s", error)
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not _is_private(found):
            raise _Damaged("others may write to it")
        if found.st_size > LARGEST_FILE:
            raise _Damaged("it is too large")
        snapshot = _decode(os.read(descriptor, found.st_size), key)
        with suppress(OSError):
            os.utime(descriptor)  # it is in use
        return snapshot
    except (_Damaged, OSError) as error:
        note("translations in %s are not used: %s", path, error)
        return None
    finally:
        os.close(descriptor)


def _is_private(found: os.stat_result) -> bool:
    """Whether nobody else can have written to a file or folder."""
    others = stat.S_IWGRP | stat.S_IWOTH
    return found.st_uid == os.geteuid() and not found.st_mode & others


def write(path: str, key: bytes, snapshot: Snapshot) -> None:
    """Put a file in place of that at *path*, at one stroke.

    Raises:
        OSError: that is not possible; the old one stays.
    """
    import resource

    parts = _encode(snapshot, key)
    size = sum(map(len, parts))
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size > LARGEST_FILE or (limit != resource.RLIM_INFINITY and size > limit):
        raise OSError(27, "the file would be too large")  # EFBIG; beyond the limit comes a signal
    folder = os.path.dirname(path)
    _make_folder(folder)
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)  # the guest's umask is in force
            rest = memoryview(b"".join(parts))
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _make_room(folder)


def _make_folder(folder: str) -> None:
    """Make the folder, for this user alone.

    Raises:
        OSError: it cannot be made, or others may write to it.
    """
    before = os.umask(0o077)
    try:
        os.makedirs(folder, exist_ok=True)
    finally:
        os.umask(before)
    if not _is_private(os.stat(folder)):
        raise PermissionError(1, f"others may write to {folder}")


def _make_room(folder: str) -> None:
    """Delete the files that were used least recently, as far as there are too many bytes."""
    with os.scandir(folder) as entries:
        files = [(entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries]
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= LARGEST_FOLDER:
            break
        with suppress(OSError):
            os.unlink(path)
            total -= size
