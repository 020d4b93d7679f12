"""``python -m tests.fuzz``: run random bytes under the engine and on the processor, and compare."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.fuzz.campaign import ENGINE, Campaign, Finding, describe
from tests.fuzz.cases import Case, make_case
from tests.fuzz.comparison import FAR, MODES


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, help="run for so long")
    parser.add_argument("--cases", type=int, help="run so many (10000 without --seconds)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--mode", choices=(*MODES, FAR), default="", help="run all cases in this mode"
    )
    parser.add_argument("--jobs", type=int, default=1, help="children at a time")
    parser.add_argument("--stop-after", type=int, default=1, help="findings (1)")
    parser.add_argument("--whole", action="store_true", help="do not shorten what is found")
    parser.add_argument("--engine", default=ENGINE, help="a module with PyQBDI's interface")
    parser.add_argument("--case", type=int, help="run this one alone")
    parser.add_argument("--bytes", help="its code in hexadecimal, if not what belongs to it")
    parser.add_argument("--offset", type=int, help="of that code in its page")
    return parser.parse_args()


def _repeat(options: argparse.Namespace) -> int:
    case = make_case(options.seed, options.case)
    if options.bytes:
        offset = case.offset if options.offset is None else options.offset
        case = Case(case.seed, case.index, bytes.fromhex(options.bytes), offset)
    mode = options.mode or "plain"
    differences = Campaign(options.seed, options.engine).check(case, mode)
    print(describe(Finding(case, mode, differences or ["no difference"]), options.engine))
    return bool(differences)


def main() -> int:
    """Return the exit status: 1 if something was found."""
    options = _arguments()
    if options.case is not None:
        return _repeat(options)
    seconds = options.seconds or float("inf")
    count = options.cases or (10_000 if options.seconds is None else 1 << 40)
    started = time.monotonic()
    campaigns = [
        Campaign(options.seed + job, options.engine, options.mode, job)
        for job in range(options.jobs)
    ]
    found: list[Finding] = []

    def run(campaign: Campaign) -> None:
        share = -(-count // options.jobs)
        for finding in campaign.run(options.first, share, seconds):
            found.append(finding)
            print(
                describe(finding if options.whole else campaign.reduce(finding), options.engine),
                flush=True,
            )
            if len(found) >= options.stop_after:
                return

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, campaigns))
    done, took = sum(campaign.done for campaign in campaigns), time.monotonic() - started
    print(f"{done} cases in {took:.0f} s ({done / took:.0f}/s), {len(found)} with differences")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
