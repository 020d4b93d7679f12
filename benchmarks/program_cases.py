"""The programs that row `programs` runs, and the files that they work on."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks import build

SOURCES = build.HERE / "sources"

_SQL = """
create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
insert into t select i, printf('%08d', i * 7919 % 65537) from n;
create index by_b on t(b);
select count(*), sum(a), min(b), max(b) from t where b > '00030000';
"""
_PERL = """
my %seen;
for my $i (1 .. {rows}) {{
    my $word = sprintf("%x", $i * 2654435761 % 65537);
    $seen{{$word}}++ if $word =~ /[a-f]\\d/;
}}
print scalar(keys %seen), "\\n";
"""
_PYTHON_START = "import json, re; print(json.dumps(re.findall('[a-c]+', 'abcxbca')))"
_PYTHON_LOOP = """
x = 0
for i in range({rows}):
    x += i * i % 7
print(x)
"""


@dataclass(frozen=True)
class Case:
    """One program, its arguments and what its time is compared with.

    Attributes:
        name: what it is called in the table.
        command: the program's path and its arguments.
        kind: ``start`` (mostly code that is executed once), ``steady`` (a long computation), or
            ``inside``: the program prints the nanoseconds that count.
    """

    name: str
    command: tuple[str, ...]
    kind: str

    @property
    def inside(self) -> bool:
        """Whether the program takes the time itself."""
        return self.kind == "inside"


def cases(folder: Path, quick: bool) -> tuple[list[Case], list[str]]:
    """The cases, with their files made in *folder*, and the names of programs that are missing.

    Args:
        quick: work on less.
    """
    part = 10 if quick else 1
    crowd, data = folder / "crowd", folder / "data"
    _make_crowd(crowd, 5000 // part)
    _make_data(data, 20_000_000 // part)
    sql, perl, loop = (
        _written(folder / name, text.format(rows=rows // part))
        for name, text, rows in (
            ("rows.sql", _SQL, 50_000),
            ("words.pl", _PERL, 100_000),
            ("loop.py", _PYTHON_LOOP, 12_000_000),
        )
    )
    wanted = (
        ("true", "start", "true"),
        (f"ls -l of {5000 // part} files", "start", "ls", "-l", str(crowd)),
        ("sqlite3 script", "start", "sqlite3", ":memory:", f".read {sql}"),
        ("perl script", "start", "perl", perl),
        ("python3 -c", "start", "python3", "-c", _PYTHON_START),
        ("xz -1", "steady", "xz", "-1", "-T1", "-c", str(data)),
        ("sha256sum", "steady", "sha256sum", str(data)),
        ("gzip", "steady", "gzip", "-c", str(data)),
        ("python3 loop", "steady", "python3", loop),
    )
    found: list[Case] = []
    missing: list[str] = []
    for name, kind, program, *arguments in wanted:
        # The system's own, which the table is about, and not what a shell's PATH puts before it.
        path = shutil.which(program, path="/usr/bin:/bin") or shutil.which(program)
        if path is None:
            missing.append(program)
        else:
            found.append(Case(name, (path, *arguments), kind))
    return found + _own_cases(part), missing


def _own_cases(part: int) -> list[Case]:
    calls = str(build.program(SOURCES / "system_calls.c"))
    threads = str(build.program(SOURCES / "compute_threads.c"))
    count, units = str(1_000_000 // part), str(150_000 // part)
    return [
        Case("getppid", (calls, "getppid", count), "inside"),
        Case("clock_gettime", (calls, "clock", count), "inside"),
        Case("1 compute thread", (threads, "1", units), "inside"),
        Case("2 compute threads", (threads, "2", units), "inside"),
    ]


def _written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def _make_crowd(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"file{number * 7919 % 100_003:06}").write_bytes(b"x" * (number % 50))


def _make_data(path: Path, size: int) -> None:
    """Write *size* bytes of text that compresses as text does."""
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(4000)]
    lines = "\n".join(" ".join(draw.choices(words, k=11)) for _ in range(size // 40))
    path.write_text(lines[:size])
