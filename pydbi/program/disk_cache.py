"""Translations of programs, kept on disk for the next run.

A file holds what was translated of one program and of what it has loaded, as a `Snapshot`. It is
read when the program begins, and written when it ends if much was translated that the file did not
have. Whether a translation still holds is not asked of names and times: a layer becomes live when
the guest maps code at its addresses whose bytes are those that it was made from.
"""

from __future__ import annotations

import gc
import marshal
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pydbi.jit
import pydbi.x86
from pydbi.host import cpu
from pydbi.host.libc import PROT_EXEC, PROT_WRITE
from pydbi.jit.app_memory import PAGE_SHIFT, PAGE_SIZE
from pydbi.jit.snapshot import Layer, Snapshot, activate, is_plain, restore, take
from pydbi.program.kernel import note
from pydbi.program.mappings import Area

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.program.guest_process import GuestProcess

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
_NEWS = 16
"""A file is written anew if more than one block in so many is new."""
_COMPARED_AT_ONCE = 2 * PAGE_SIZE


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
    return os.path.join(base, "pydbi") if os.path.isabs(base) else None


class DiskCache:
    """The disk cache of one process.

    Args:
        folder: where its files are; None: there is no such cache.
    """

    def __init__(self, process: GuestProcess, folder: str | None) -> None:
        self._process = process
        self._folder = folder
        self._run: _Run | None = None

    def begin(self) -> None:
        """Take what there is for the program, which has been loaded and not begun."""
        self._run = None
        engine = self._process.engine
        if self._folder is None or not is_plain(engine) or not engine.empty():
            return
        try:
            run = _Run(engine, self._folder, os.path.realpath(self._process.command.path))
        except OSError as error:
            note("no disk cache: %s", error)
            return
        with _collecting_nothing():
            self._restore(run)

    def _restore(self, run: _Run) -> None:
        space = self._process.space
        snapshot = _read(run.path, run.key)
        if snapshot is not None and restore(run.engine, snapshot, space.low, space.high):
            run.waiting = list(snapshot.layers)
        self._run = run
        for area in space.mappings:
            self.on_code(area)

    def on_code(self, area: Area) -> None:
        """Make the translations of *area* live, if it is executable and they are of its bytes."""
        run = self._run
        if run is None or not run.waiting or not _is_lasting(area) or not run.is_valid():
            return
        for layer in list(run.waiting):
            low, high = layer.bounds
            if area.start <= low and high <= area.end:
                run.waiting.remove(layer)
                if not self._is_same(layer):
                    continue
                with _collecting_nothing():
                    if activate(run.engine, layer):
                        run.live.append(layer)

    def _is_same(self, layer: Layer) -> bool:
        """Whether the guest's memory has the bytes that *layer* was made from."""
        place = 0
        for first, size in _runs(layer.pages):
            address = first << PAGE_SHIFT
            for start in range(0, size, _COMPARED_AT_ONCE):
                part = min(_COMPARED_AT_ONCE, size - start)
                data = self._process.memory.read_data(address + start, part)
                if data != layer.code[place : place + part]:
                    note("code at %#x has changed since it was translated", address + start)
                    return False
                place += part
        return True

    def keep(self) -> None:
        """Write what was translated, if it is worth it: the program ends, or may end now."""
        run = self._run
        if run is None or run.pid != os.getpid() or not run.is_valid() or not run.has_news():
            return
        run.is_kept = True
        with _collecting_nothing():
            snapshot = take(run.engine, self._lasting_area, run.compared_pages())
        if snapshot is None:
            return
        snapshot = snapshot._replace(layers=snapshot.layers + tuple(run.waiting))
        try:
            if 2 * sum(layer.used_size() for layer in snapshot.layers) < len(snapshot.code):
                os.unlink(run.path)  # most of it is of code that is gone: begin anew
            else:
                _write(run, _encode(snapshot, run.key))
        except OSError as error:
            note("translations are not kept: %s", error)

    def _lasting_area(self, app: int) -> tuple[int, int] | None:
        area = self._process.space.mappings.find(app)
        return (area.start, area.end) if area is not None and _is_lasting(area) else None


class _Run:
    """What is to be known of a program from its beginning to its end.

    Attributes:
        path: of the file.
        waiting, live: layers of the file, by what has become of them.
        pid: the process that has begun: a child that it forks writes nothing.
        is_kept: whether it was written; once is enough.
    """

    def __init__(self, engine: Engine, folder: str, program: bytes) -> None:
        """Find the file for *program*, a path.

        Raises:
            OSError: pydbi's own files cannot be looked at.
        """
        self.engine = engine
        where: Any = (program, _features(engine))
        everything: Any = (_FORMAT, where, _sources())
        self.key = marshal.dumps(everything, _MARSHAL_VERSION)
        place = zlib.crc32(marshal.dumps(where, _MARSHAL_VERSION))
        name = os.path.basename(program).decode(errors="replace")
        self.path = os.path.join(folder, f"{name[:_LONGEST_NAME]}-{place:08x}{_SUFFIX}")
        self.waiting: list[Layer] = []
        self.live: list[Layer] = []
        self.pid = os.getpid()
        self.is_kept = False
        self._user = os.geteuid()
        self._resets = engine.stats.resets

    def is_valid(self) -> bool:
        """Whether the cache holds what it held since the beginning, and nothing is called back."""
        engine = self.engine
        return (
            self._resets == engine.stats.resets
            and not engine.is_reset_due
            and is_plain(engine)
            and self._user == os.geteuid()
        )

    def has_news(self) -> bool:
        """Whether much was translated that is not from the file, nor in it since."""
        return not self.is_kept and self.engine.fresh_blocks * _NEWS > len(self.engine.cache.blocks)

    def compared_pages(self) -> dict[int, bytes]:
        """Return the pages that live layers are made of."""
        pages = {}
        for layer in self.live:
            for place, number in enumerate(layer.pages):
                pages[number] = layer.code[place * PAGE_SIZE : (place + 1) * PAGE_SIZE]
        return pages


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Within, no cyclic garbage is looked for: what is made meanwhile stays."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _is_lasting(area: Area) -> bool:
    """Whether *area* is code of a file that the guest does not write to."""
    allowed = area.protection & (PROT_EXEC | PROT_WRITE) == PROT_EXEC
    return allowed and not area.shared and area.path.startswith("/")


def _runs(pages: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Return (number, bytes) for each run of pages that follow one another."""
    first = previous = -1
    for number in pages:
        if number != previous + 1:
            if first >= 0:
                yield first, previous + 1 - first << PAGE_SHIFT
            first = number
        previous = number
    if first >= 0:
        yield first, previous + 1 - first << PAGE_SHIFT


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


# Files.


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


def _read(path: str, key: bytes) -> Snapshot | None:
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


def _write(run: _Run, parts: list[bytes]) -> None:
    """Put a file in place of that of *run*, at one stroke.

    Raises:
        OSError: that is not possible; the old one stays.
    """
    import resource

    size = sum(map(len, parts))
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size > LARGEST_FILE or (limit != resource.RLIM_INFINITY and size > limit):
        raise OSError(27, "the file would be too large")  # EFBIG; beyond the limit comes a signal
    folder = os.path.dirname(run.path)
    _make_folder(folder)
    temporary = f"{run.path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)  # the guest's umask is in force
            rest = memoryview(b"".join(parts))
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
        os.rename(temporary, run.path)
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
