"""Functions of real libraries give under pydbi what they give natively.

Each case runs in a child process, once without callbacks and once with a counting PREINST callback
on every instruction of the library. Its docstring is the promise.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.child import child_environment
from tests.libraries.run_case import CASES, LIBRARY_OF

_SOURCES = Path(__file__).with_name("c")
_TIMEOUT = 300.0
_COMMON = ("-shared", "-fPIC", "-g0")
_BUILDS = {
    "libplain-O0.so": ("gcc", "plain.c", "-O0"),
    "libplain-O2.so": ("gcc", "plain.c", "-O2", "-fcf-protection"),
    "libplain-O3-native.so": (
        "gcc",
        "plain.c",
        "-O3",
        "-march=native",
        "-mprefer-vector-width=512",
    ),
    "libexceptions.so": ("g++", "exceptions.cpp", "-O2", "-std=c++17"),
}


@pytest.fixture(scope="session")
def built_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the compiled test libraries."""
    folder: Path = tmp_path_factory.mktemp("libraries")
    for name, (compiler, source, *options) in _BUILDS.items():
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        command = [compiler, *_COMMON, *options, str(_SOURCES / source), "-o", str(folder / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("mode", ["plain", "counting"])
@pytest.mark.parametrize("name", CASES)
def test_equals_native(name: str, mode: str, built_libraries: Path) -> None:
    """The case holds without callbacks, and with one on every instruction."""
    needed = LIBRARY_OF.get(name)
    if needed is not None:
        try:
            ctypes.CDLL(needed)
        except OSError as error:
            pytest.skip(f"cannot load {needed}: {error}")
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.libraries.run_case"]
    try:
        done = subprocess.run(
            [*command, name, mode, str(built_libraries)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            env=child_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"{name} took longer than {_TIMEOUT:.0f} s: {CASES[name].__doc__}")
    assert done.returncode == 0, f"status {done.returncode}: {CASES[name].__doc__}\n{done.stderr}"
