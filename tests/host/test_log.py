"""Log priorities."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import pydbi
from pydbi.host.log import logger

LEVELS = [
    (pydbi.DEBUG, {"debug", "info", "warning", "error"}),
    (pydbi.INFO, {"info", "warning", "error"}),
    (pydbi.WARNING, {"warning", "error"}),
    (pydbi.ERROR, {"error"}),
    (pydbi.DISABLE, set()),
    (pydbi.LogPriority(77), set()),
]


@pytest.mark.parametrize(("priority", "passed"), LEVELS)
def test_priorities(
    priority: pydbi.LogPriority, passed: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Messages of the priority and above pass, beyond ERROR none."""
    assert logger() is logging.getLogger("pydbi")
    before = logger().level
    try:
        pydbi.setLogPriority(priority)
        for level in ("debug", "info", "warning", "error"):
            getattr(logger(), level)(level)
    finally:
        logger().setLevel(before)
    assert {record.message for record in caplog.records} == passed


@pytest.mark.parametrize("priority", [0, None, "INFO", pydbi.STOP])
def test_what_is_no_priority(priority: Any) -> None:
    """Nothing but a LogPriority is taken."""
    with pytest.raises(TypeError, match="LogPriority"):
        pydbi.setLogPriority(priority)
