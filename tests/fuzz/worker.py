"""The child process in which cases run: ``python -m tests.fuzz.worker``, started by `campaign`.

Its argument is a job in JSON. It prints a line of JSON for each case with differences, and writes
the number of the case that is running to a file that the parent has opened.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import struct
import sys

from tests.fuzz.cases import Case, make_case
from tests.fuzz.comparison import MODES, Comparison
from tests.fuzz.layout import SLOT_COUNT


def _pin(first: int) -> None:
    """Stay on one processor: the traced process runs in turns with this one."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[first % len(allowed)]})


def mode_of(index: int, mode: str) -> str:
    """Return the mode of a case: half of the batches run without callbacks."""
    return mode or (*MODES, "plain")[index // SLOT_COUNT % 4]


def main() -> None:
    """Run the job in the first argument."""
    job = json.loads(sys.argv[1])
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _pin(job["cpu"])
    comparison = Comparison(job["engine"], job["mode"])
    if job["code"] is not None:
        seed, index = job["seed"], job["first"]
        given = Case(seed, index, bytes.fromhex(job["code"]), job["offset"])
        comparison.load([given])
        found = comparison.run(given, mode_of(index, job["mode"]))
        output.write(json.dumps({"index": index, "differences": found}) + "\n")
        return
    first, end = job["first"], job["end"]
    for batch in range(first // SLOT_COUNT, -(-end // SLOT_COUNT)):
        low = batch * SLOT_COUNT
        cases = [make_case(job["seed"], index) for index in range(low, low + SLOT_COUNT)]
        comparison.load(cases)
        for case in cases[max(first - low, 0) : end - low]:
            os.pwrite(job["progress"], struct.pack("<q", case.index), 0)
            found = comparison.run(case, mode_of(case.index, job["mode"]))
            if found:
                output.write(json.dumps({"index": case.index, "differences": found}) + "\n")
                output.flush()
    comparison.native.close()


if __name__ == "__main__":
    main()
