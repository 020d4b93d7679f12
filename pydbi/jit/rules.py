"""Instrumentation rules: Python decides, when an instruction is translated, what is due at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydbi.host.late import load
from pydbi.jit.instrumentation import Registration
from pydbi.tuples import NamedTuple
from pydbi.types import InstrRuleDataCBK, Options

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine


NOTHING: Sequence[Registration] = ()


class Rule(NamedTuple):
    """A rule and where it is asked: at instructions that lie wholly in [low, high)."""

    identity: int
    low: int
    high: int
    callback: Callable[..., Any]
    """Called as ``callback(vm, analysis, data)``; returns a list of `InstrRuleDataCBK`."""
    kind: int
    """Bits of `AnalysisType`: what it wants to know."""
    data: Any


class Rules:
    """The rules of a VM, and the callbacks they have asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rules: dict[int, Rule] = {}
        self._vectors: list[int] = []
        self._answers: dict[int, Sequence[Registration]] = {}

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def have_asked_for_callbacks(self) -> bool:
        """Whether a block has a callback that a rule wanted."""
        return bool(self._vectors)

    def add(self, rule: Rule) -> None:
        """Enter a rule."""
        self._rules[rule.identity] = rule

    def remove(self, identity: int) -> Rule | None:
        """Take a rule out and return it, or None if there is none with this id."""
        return self._rules.pop(identity, None)

    def remove_all(self) -> None:
        """Take all rules out."""
        self._rules.clear()

    def ask(self, app: int, starts: Sequence[int], end: int, code: bytes) -> bool:
        """Ask the rules about a block at *app*; return whether they want any callback in it.

        They are asked once about an instruction, until its translation is forgotten.

        Args:
            starts: offset of each of its instructions.
            end: its size in bytes.
            code: its bytes, and maybe more.

        Raises:
            TypeError: a rule returned something else than a list of `InstrRuleDataCBK`.
            BaseException: what a rule raised.
        """
        load("pydbi.x86.analysis")
        from pydbi.x86.analysis import make_analysis

        engine, answers = self._engine, self._answers
        vm = engine.vm()
        syntax = int(engine.options & Options.OPT_ATT_SYNTAX)
        rules = [
            (rule.callback, rule.data, rule.kind | syntax, rule)
            for rule in self._rules.values()
            if rule.low < app + end and rule.high > app
        ]
        if not rules:
            return False
        within = max(r.low for *_, r in rules) <= app and app + end <= min(
            r.high for *_, r in rules
        )
        any_wanted = False
        engine.instruction_outside = 0
        try:
            for start, stop in zip(starts, [*starts[1:], end], strict=True):
                here = app + start
                answer = answers.get(here)
                if answer is None:
                    answer = NOTHING
                    own = code[start:stop]
                    for callback, data, kind, rule in rules:
                        if within or (rule.low <= here and app + stop <= rule.high):
                            wanted = callback(vm, make_analysis(own, here, kind), data)
                            if wanted or wanted.__class__ is not list:
                                answer = [*answer, *self._register(rule, here, own, wanted)]
                    answers[here] = answer
                if answer:
                    any_wanted = True
        finally:
            engine.instruction_outside = None
        return any_wanted

    def at(self, app: int) -> Sequence[Registration]:
        """Return what the rules want at the instruction at *app*, as they said when asked."""
        return self._answers.get(app, NOTHING)

    def forget(self, low: int, high: int) -> None:
        """Ask anew about instructions at app addresses in [*low*, *high*)."""
        if self._rules:
            for address in [a for a in self._answers if low <= a < high]:
                del self._answers[address]

    def _register(self, rule: Rule, app: int, code: bytes, wanted: object) -> list[Registration]:
        if isinstance(wanted, (str, bytes)) or not isinstance(wanted, Sequence):
            raise _wrong_result(rule.callback, wanted)
        registrations = []
        for item in wanted:
            if not isinstance(item, InstrRuleDataCBK):
                raise _wrong_result(rule.callback, wanted)
            vector = self._engine.registrar.add_vector(item.cbk, item.data)
            self._vectors.append(vector)
            registration = Registration(
                rule.identity,
                item.position,
                item.priority,
                app,
                app + len(code),
                item.cbk,
                item.data,
                vector,
                by_rule=True,
            )
            self._engine.instrumentation.by_vector[vector] = registration
            registrations.append(registration)
        return registrations

    def release(self) -> None:
        """Let go of the callbacks that rules have asked for: no translation has them any more."""
        for vector in self._vectors:
            self._engine.instrumentation.by_vector.pop(vector, None)
            self._engine.vectors.retire(vector)
        self._vectors.clear()
        self._answers.clear()


def _wrong_result(callback: object, result: object) -> TypeError:
    return TypeError(
        f"the rule {callback!r} returned {result!r}: a rule returns a list of InstrRuleDataCBK"
    )
