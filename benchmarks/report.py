"""What a row hands back, and how it is printed: plain text, aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Cell = str | float | None


@dataclass(frozen=True)
class Settings:
    """What the command line chose.

    *engine* is the module under test and *peer* the one to compare with, '' for none.
    """

    engine: str = "pydbi"
    peer: str = "pyqbdi"
    rounds: int = 7
    quick: bool = False
    isolate: bool = False
    clock: str = "wall"

    @property
    def engines(self) -> tuple[str, ...]:
        """The engine under test, and the peer if there is one."""
        return (self.engine, self.peer) if self.peer else (self.engine,)


@dataclass
class Report:
    """One row's table, its figures by name (None: not measured), and what went wrong."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    note: str = ""

    def fail(self, case: str, failures: dict[str, str]) -> None:
        """Remember why subjects of *case* have no figure."""
        self.failures += [f"{case}, {name}: {reason}" for name, reason in failures.items()]

    def text(self) -> str:
        """The report as lines for a terminal."""
        parts = [self.title, "=" * len(self.title), table(self.columns, self.rows)]
        parts += [self.note] if self.note else []
        parts += [f"FAILED  {failure}" for failure in self.failures]
        return "\n".join(parts) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """*rows* under *columns*: the first column is text, numbers align on the right."""
    lines = [list(columns), *([show(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numeric = [
        any(isinstance(row[index], (int, float)) for row in rows) for index in range(len(columns))
    ]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def show(cell: Cell) -> str:
    """A cell as text: three digits that matter, and a dash for what was not measured."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    digits = 0 if abs(cell) >= 100 else 1 if abs(cell) >= 10 else 2
    return f"{cell:.{digits}f}"


def scaled(value: float | None, unit: float) -> float | None:
    """*value* in *unit*, if there is a value."""
    return None if value is None else value / unit


def inverse(value: float | None) -> float | None:
    """One over *value*, if there is a value."""
    return None if not value else 1 / value
