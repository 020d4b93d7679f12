"""C programs for the tests of `pydbi.Program`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parent / "c"


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function that compiles ``c/NAME.c`` and returns the program's path.

    It takes the source's name, options for the compiler, and the compiler; without that the test
    is skipped.
    """
    folder = tmp_path_factory.mktemp("programs")
    made: dict[tuple[str, ...], str] = {}

    def compile_program(name: str, *options: str, compiler: str = "gcc") -> str:
        key = (name, compiler, *options)
        if key not in made:
            if shutil.which(compiler) is None:
                pytest.skip(f"no {compiler} here")
            program = folder / f"{name}{len(made)}"
            command = [compiler, "-O1", *options, "-o", str(program), str(SOURCES / f"{name}.c")]
            subprocess.run(command, check=True, capture_output=True, text=True)
            made[key] = str(program)
        return made[key]

    return compile_program
