"""One conformance suite for PyQBDI and pydbi. Each test's body runs in a forked child."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest
from tests.compat.transfer_guest import TransferGuest
from tests.vm.forked import run_forked

TIMEOUT = 20


def pytest_configure(config: pytest.Config) -> None:
    """Declare this folder's markers."""
    for text in (
        "in_parent: the test makes no VM and touches no raw memory, so it needs no child",
        f"takes(seconds): the child has so long, and not {TIMEOUT} s",
    ):
        config.addinivalue_line("markers", text)


@pytest.fixture(scope="session", params=["pyqbdi", "pydbi"])
def qbdi(request: pytest.FixtureRequest) -> Any:
    """The module under test, imported once."""
    return pytest.importorskip(request.param)


@pytest.fixture
def guest(qbdi: Any) -> Callable[..., Guest]:
    """`harness.Guest` with the module under test: ``guest("inc rax")``."""
    return functools.partial(Guest, qbdi)


@pytest.fixture
def transfer(qbdi: Any) -> Callable[..., TransferGuest]:
    """`TransferGuest` with the module under test."""
    return functools.partial(TransferGuest, qbdi)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test's body in a fork of this process, so that a crash is one failed test."""
    if pyfuncitem.get_closest_marker("in_parent"):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    takes = pyfuncitem.get_closest_marker("takes")
    timeout = takes.args[0] if takes else TIMEOUT
    reader, writer = os.pipe()
    gc.freeze()  # a child that collects need not look at the objects that are here already
    try:
        run_forked(_run_body, pyfuncitem.obj, arguments, writer, timeout=timeout)
    except pytest.fail.Exception as failure:
        pytest.fail(str(failure), pytrace=False)
    finally:
        gc.unfreeze()
        os.close(writer)
        with open(reader, encoding="utf-8") as lines:
            reason = lines.read()
    if reason:
        pytest.skip(reason)
    return True


def _run_body(function: Callable[..., Any], arguments: dict[str, Any], writer: int) -> None:
    try:
        function(**arguments)
    except pytest.skip.Exception as skipped:
        os.write(writer, str(skipped).encode())
