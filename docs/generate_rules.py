"""Write docs/design/patch-rules.md from the engine's rules: ``python docs/generate_rules.py``."""

from __future__ import annotations

from pathlib import Path

from pydbi.jit.patches import RULES, Rule
from pydbi.x86 import traits

PAGE = Path(__file__).resolve().parent / "design" / "patch-rules.md"

_INTRODUCTION = """\
# The patch rules

<!-- Made by docs/generate_rules.py; do not edit. -->

What replaces each kind of instruction: `RULES` in `pydbi/jit/patches.py`, in order. An instruction
belongs to the first rule whose flow kind it has, and any of whose flags. `any` matches everything.
Flow kinds and flags are those of `pydbi/x86/traits.py`, as the scanner gives them. An instruction
without traits that matter is no *special* at all, and copied without asking for a rule.

| # | flow kind | flags | function | what is generated |
|--:|---|---|---|---|
"""


def _row(number: int, rule: Rule) -> str:
    flow = "any" if rule.flow is None else f"`{traits.FLOW_NAMES[rule.flow]}`"
    names = [f"`{name}`" for bit, name in enumerate(traits.FLAG_NAMES, 5) if rule.flags >> bit & 1]
    promise = (rule.emit.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
    function = rule.emit.__name__
    if not function.startswith("emit_"):  # one of those that only raise
        function = "_refuse"
    return f"| {number} | {flow} | {' or '.join(names) or 'any'} | `{function}` | {promise} |\n"


def text() -> str:
    """Return what the page should say."""
    return _INTRODUCTION + "".join(_row(number, rule) for number, rule in enumerate(RULES, 1))


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
