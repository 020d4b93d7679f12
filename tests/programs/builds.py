"""Test programs compiled from ``c/``, and what they are compiled with."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

_SOURCES = Path(__file__).resolve().parent / "c"


@dataclass(frozen=True)
class Build:
    """How to make one program or library.

    Attributes:
        command: the compiler and its options; ``{out}`` is the program to make, ``{bin}`` its
            folder. It is run in the sources' folder.
        after: builds that must be there first.
    """

    command: str
    after: tuple[str, ...] = ()


BUILDS = {
    "plugin.so": Build("gcc -O1 -shared -fPIC plugin.c -o {out}"),
    "libthrows.so": Build("g++ -O1 -shared -fPIC throws.cpp -o {out}"),
    "exceptions": Build(
        "g++ -O1 -pthread exceptions.cpp -o {out} -L{bin} -lthrows -Wl,-rpath,$ORIGIN",
        after=("libthrows.so",),
    ),
    "start": Build("gcc -O1 start.c -o {out}"),
    "start-static": Build("gcc -O1 -static start.c -o {out}"),
    "start-static-pie": Build("gcc -O1 -static-pie -fPIE start.c -o {out}"),
    "start-fixed": Build("gcc -O1 -no-pie -fno-pie start.c -o {out}"),
    "start-musl": Build("musl-gcc -O1 start.c -o {out}"),
    "start-musl-static": Build("musl-gcc -O1 -static start.c -o {out}"),
    "start-bind-now": Build("gcc -O1 -Wl,-z,now,-z,relro start.c -o {out}"),
    "bare": Build("gcc -nostdlib -static bare.S -o {out}"),
    "bare-pie": Build("gcc -nostdlib -static-pie bare.S -o {out}"),
    "vectors": Build("gcc -O2 -mavx2 -mfma vectors.c -o {out} -lm"),
    "classes": Build("javac -d {out} Main.java"),
    "go-program": Build("go build -o {out} program.go"),
    "rust-program": Build("rustc -O program.rs -o {out}"),
}
"""What is not in here is compiled from ``NAME.c`` by gcc, with threads and libm."""
_DEFAULT = Build("gcc -O1 -pthread {name}.c -o {out} -lm -lrt -ldl")


class BuildError(Exception):
    """A compiler failed; its message is the text."""


class Programs:
    """A folder of programs, each compiled when it is first asked for. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()

    def build(self, name: str) -> None:
        """Make the program *name* unless it is there.

        Raises:
            BuildError: the compiler failed.
        """
        with self._lock:
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:
            if (self.folder / name).exists():
                return
            build = recipe(name)
            for other in build.after:
                self.build(other)
            self._compile(name, build.command)

    def _compile(self, name: str, command: str) -> None:
        out = self.folder / name
        names = {"out": str(out), "bin": str(self.folder), "name": name}
        caches = {"GOCACHE": str(self.folder / "go-cache"), "GOFLAGS": "-mod=mod"}
        done = subprocess.run(
            [word.format(**names) for word in command.split()],
            cwd=_SOURCES,
            env={**os.environ, **caches},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
            raise BuildError(f"{name}: {command}\n{done.stdout}{done.stderr}")


def recipe(name: str) -> Build:
    """Return how *name* is made."""
    if name in BUILDS:
        return BUILDS[name]
    return Build(_DEFAULT.command.replace("{name}", name))


def missing_compiler(name: str) -> str | None:
    """Return the compiler that *name* needs and that is not installed, if any."""
    build = recipe(name)
    compiler = build.command.split()[0]
    if shutil.which(compiler) is None:
        return compiler
    return next(filter(None, map(missing_compiler, build.after)), None)
