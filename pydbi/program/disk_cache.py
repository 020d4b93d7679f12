"""Translations of programs, kept on disk for the next run.

A file holds what was translated of one program and of what it has loaded, as a `Snapshot`. It is
read when the program begins, and written when it ends if much was translated that the file did not
have. Whether a translation still holds is not asked of names and times: a layer becomes live when
the guest maps code at its addresses whose bytes are those that it was made from.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydbi.host.libc import PROT_EXEC, PROT_WRITE
from pydbi.jit.app_memory import PAGE_SHIFT, PAGE_SIZE
from pydbi.jit.snapshot import Layer, activate, is_plain, restore
from pydbi.jit.snapshot_taking import take
from pydbi.program.kernel import note
from pydbi.program.mappings import Area
from pydbi.program.translation_files import name_file, read, write

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.program.guest_process import GuestProcess

_NEWS = 16
"""A file is written anew if more than one block in so many is new."""
_COMPARED_AT_ONCE = 2 * PAGE_SIZE


class DiskCache:
    """The disk cache of one process.

    Args:
        folder: where its files are; None: there is no such cache.
        owns_process: whether this process is there for the program only.
    """

    def __init__(self, process: GuestProcess, folder: str | None, owns_process: bool) -> None:
        self._process = process
        self._owns_process = owns_process
        self._folder = folder
        self._run: _Run | None = None

    def begin(self) -> None:
        """Take what there is for the program, which has been loaded and not begun."""
        self._run = None
        engine = self._process.engine
        if self._folder is None or not is_plain(engine) or not engine.invalidation.empty():
            return
        try:
            run = _Run(engine, self._folder, os.path.realpath(self._process.command.path))
        except OSError as error:
            note("no disk cache: %s", error)
            return
        with self._collecting_nothing():
            self._restore(run)

    def _restore(self, run: _Run) -> None:
        space = self._process.space
        snapshot = read(run.path, run.key)
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
                with self._collecting_nothing():
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
        with self._collecting_nothing():
            snapshot = take(run.engine, self._lasting_area, run.compared_pages())
        if snapshot is None:
            return
        snapshot = snapshot._replace(layers=snapshot.layers + tuple(run.waiting))
        try:
            if 2 * sum(layer.used_size() for layer in snapshot.layers) < len(snapshot.code):
                os.unlink(run.path)  # most of it is of code that is gone: begin anew
            else:
                write(run.path, run.key, snapshot)
        except OSError as error:
            note("translations are not kept: %s", error)

    @contextmanager
    def _collecting_nothing(self) -> Iterator[None]:
        """Within, no cyclic garbage is looked for: what is made meanwhile stays.

        Where the process is the program's, it is never looked at.
        """
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if self._owns_process:
                gc.freeze()
            if enabled:
                gc.enable()

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
        self.path, self.key = name_file(engine, folder, program)
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
            and not engine.invalidation.is_reset_due
            and is_plain(engine)
            and self._user == os.geteuid()
        )

    def has_news(self) -> bool:
        """Whether much was translated that is not from the file, nor in it since."""
        return not self.is_kept and self.engine.stats.fresh_blocks * _NEWS > len(
            self.engine.cache.blocks
        )

    def compared_pages(self) -> dict[int, bytes]:
        """Return the pages that live layers are made of."""
        pages = {}
        for layer in self.live:
            for place, number in enumerate(layer.pages):
                pages[number] = layer.code[place * PAGE_SIZE : (place + 1) * PAGE_SIZE]
        return pages


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
