"""The figures the project promises, and whether a run reached them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report import Cell, Report, table


@dataclass(frozen=True)
class Target:
    """A figure of one row, what it should be, and what would be better still."""

    row: str
    metric: str
    text: str
    goal: float
    beyond: float | None
    higher_is_better: bool = False

    def verdict(self, value: float | None) -> str:
        """How *value* compares."""
        if value is None:
            return "not measured"
        reached = [
            value >= bound if self.higher_is_better else value <= bound
            for bound in (self.goal, self.beyond)
            if bound is not None
        ]
        return ("missed", "reached", "beyond")[sum(reached)]


TARGETS = (
    Target("steady", "geomean", "no callbacks, warm: geometric mean, times native", 1.25, 1.1),
    Target("steady", "worst", "no callbacks, warm: worst kernel, times native", 2.0, 1.6),
    Target(
        "callbacks",
        "empty times cheaper",
        "PREINST callback: times cheaper than the peer",
        5.0,
        8.0,
        higher_is_better=True,
    ),
    Target(
        "callbacks",
        "read times cheaper",
        "the same, reading a register: times cheaper",
        5.0,
        8.0,
        higher_is_better=True,
    ),
    Target(
        "callbacks",
        "analysis times cheaper",
        "the same, reading address and text of getInstAnalysis: times cheaper",
        5.0,
        10.0,
        higher_is_better=True,
    ),
    Target(
        "callbacks",
        "block times cheaper",
        "BASIC_BLOCK_ENTRY callback: times cheaper",
        4.0,
        8.0,
        higher_is_better=True,
    ),
    Target(
        "memory",
        "one times cheaper",
        "addMemAccessCB callback reading one record: times cheaper",
        2.0,
        4.0,
        higher_is_better=True,
    ),
    Target(
        "memory",
        "range times cheaper",
        "addMemRangeCB that never matches, per access: times cheaper",
        10.0,
        50.0,
        higher_is_better=True,
    ),
    Target(
        "memory",
        "sequence times cheaper",
        "SEQUENCE_EXIT callback with getBBMemoryAccess, per record: times cheaper",
        2.0,
        4.0,
        higher_is_better=True,
    ),
    Target("translation", "plain ratio", "new instruction: share of the peer's cost", 1.0, 0.5),
    Target(
        "translation", "callback ratio", "the same, with a callback on each: share of it", 1.0, 0.5
    ),
    Target(
        "translation", "rule ratio", "the same, with a rule that declines each: share", 1.0, 0.5
    ),
    Target("call", "ratio", "call of an empty function: share of the peer's cost", 1.0, 0.5),
    Target("programs", "true more", "true: ms more than native", 100.0, 60.0),
    Target("programs", "true/valgrind", "true: share of valgrind's time", 1.0, None),
    Target(
        "programs",
        "worst/valgrind",
        "ls, sqlite3, perl, python3: the worst, share of valgrind's time",
        1.0,
        None,
    ),
    Target(
        "programs",
        "worst steady",
        "xz, sha256sum, gzip, python3's loop: the worst, times native",
        1.8,
        1.3,
    ),
    Target("programs", "getppid", "a system call that need not leave the cache", 1.5, 1.2),
    Target(
        "programs",
        "parallel",
        "two compute threads: how parallel, as a share of native",
        0.95,
        None,
        higher_is_better=True,
    ),
    Target("programs", "ls kept", "ls with kept translations: share of the cold time", 0.5, None),
    Target(
        "programs",
        "true kept more",
        "true with kept translations: ms more than a bare Python",
        100.0,
        50.0,
    ),
)


def verdicts(reports: dict[str, Report]) -> list[dict[str, Cell]]:
    """What became of each target whose row was run."""
    return [
        {
            "row": target.row,
            "target": target.text,
            "measured": value,
            "goal": target.goal,
            "beyond": target.beyond,
            "verdict": target.verdict(value),
        }
        for target in TARGETS
        if target.row in reports
        for value in (reports[target.row].metrics.get(target.metric),)
    ]


def summary(reports: dict[str, Report]) -> str:
    """The table of verdicts."""
    found = verdicts(reports)
    columns = ["row", "target", "measured", "goal", "beyond", "verdict"]
    rows = [[verdict[column] for column in columns] for verdict in found]
    return table(columns, rows) if rows else ""
