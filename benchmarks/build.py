"""Compile the benchmarks' C sources, once per content and flags."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNELS = HERE / "kernels"
BUILD = HERE / "build"

FLAGS = ("-O2", "-shared", "-fPIC")
PROGRAM_FLAGS = ("-O2", "-pthread")


class BuildError(RuntimeError):
    """The C compiler is missing or refused a source."""


def kernels() -> dict[str, Path]:
    """The kernel sources by name, in alphabetical order."""
    return {source.stem: source for source in sorted(KERNELS.glob("*.c"))}


def shared_library(source: Path) -> Path:
    """The library compiled from *source*; compiles it if that has not been done before.

    Raises:
        BuildError: the compiler is missing or refused the source.
    """
    return _built(source, FLAGS, ".so")


def program(source: Path) -> Path:
    """The program compiled from *source*; see `shared_library`."""
    return _built(source, PROGRAM_FLAGS, ".bin")


def _built(source: Path, flags: tuple[str, ...], suffix: str) -> Path:
    """The file compiled from *source*.

    The file name holds a hash of the compiler, the flags and the text, so a changed source gets
    a new file and a loaded one is never overwritten. A source adds flags of its own with a line
    ``gcc-flags: ...`` in its first comment.
    """
    text = source.read_text()
    own = re.search(r"gcc-flags:(.*)", text)
    command = [compiler(), *flags, *(own.group(1).split() if own else ())]
    digest = hashlib.sha256("\0".join([*command, text]).encode()).hexdigest()[:12]
    result = BUILD / f"{source.stem}-{digest}{suffix}"
    if not result.exists():
        BUILD.mkdir(exist_ok=True)
        partial = result.with_suffix(f".{os.getpid()}.tmp")
        _compile([*command, "-o", str(partial), str(source)])
        partial.replace(result)  # in one step: another process may be building it too
    return result


def compiler() -> str:
    """The C compiler's command: ``$CC``, by default gcc."""
    return os.environ.get("CC", "gcc")


def compiler_version() -> str:
    """The first line of the compiler's own description, or '' if it has none."""
    try:
        text = subprocess.run(
            [compiler(), "--version"], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return ""
    return text.partition("\n")[0]


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"cannot run {command[0]}: {error}") from error
    if done.returncode:
        raise BuildError(f"{' '.join(command)}:\n{done.stderr}")
