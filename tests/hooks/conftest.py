"""The compiled functions that the tests hook."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_SOURCES = Path(__file__).resolve().parent / "c"
_OPTIONS = ("-O1", "-pthread", "-Wall")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compile a source of ``c/`` once, as a library unless options say otherwise; its path."""
    folder = tmp_path_factory.mktemp("hooks")
    known: dict[tuple[str, ...], str] = {}

    def compile_source(name: str, *options: str) -> str:
        compiler = "g++" if name.endswith(".cpp") else "gcc"
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        key = (name, *options)
        if key not in known:
            target = folder / f"{Path(name).stem}{len(known)}.so"
            kind = options or ("-shared", "-fPIC")
            command = [compiler, *_OPTIONS, *kind, str(_SOURCES / name), "-o", str(target), "-ldl"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            known[key] = str(target)
        return known[key]

    return compile_source
