"""The clock that every sample is taken with."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter_ns, process_time_ns

#: The environment variable that carries the choice into the child processes.
VARIABLE = "PYDBI_BENCHMARK_CLOCK"

CLOCKS: dict[str, Callable[[], int]] = {
    "wall": perf_counter_ns,
    "cpu": process_time_ns,  # leaves out what other processes took, on a machine that is not idle
}

#: The time now, in nanoseconds from some moment.
now = CLOCKS[os.environ.get(VARIABLE, "wall")]
