"""What callbacks ask about: the current instruction, its analysis, the accesses recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydbi.host.late import load
from pydbi.host.log import logger
from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.block import Block
from pydbi.jit.context import SLOT
from pydbi.types import AnalysisType, MemoryAccess, Options

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.record_views import RecordView
    from pydbi.x86.analysis import InstAnalysis

_GATE_INDEX = SLOT["GATE_INDEX"] >> 3


class Inspector:
    """Answers what callbacks ask.

    Attributes:
        analyses: what was analysed, by app address; the same object each time.
        by_gate: what `getInstAnalysis` without arguments returns, by the gate whose callback asks.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cache = engine.cache
        self.analyses: dict[int, InstAnalysis] = {}
        self.by_gate: dict[int, InstAnalysis] = {}

    def forget(self) -> None:
        """Analyse everything anew."""
        self.analyses.clear()
        self.by_gate.clear()

    def current_instruction(self) -> int | None:
        """Return the app address of the instruction whose callback is running, or None."""
        if not self._engine.dispatcher.running:
            return None
        if self._engine.instruction_outside is not None:
            return self._engine.instruction_outside or None
        gate = self._engine.guest.words[_GATE_INDEX] & 0xFFFFFFFF
        return self._cache.record_word(gate, 3) or None

    def instruction_accesses(self) -> list[MemoryAccess]:
        """Return what the instruction whose callback is running was recorded to access."""
        view = self._record_view()
        return [] if view is None else view.of_instruction()(self._engine.guest.words)

    def sequence_accesses(self) -> list[MemoryAccess]:
        """Return what the current sequence was recorded to access so far."""
        view = self._record_view()
        return [] if view is None else view.of_sequence()(self._engine.guest.words)

    def _record_view(self) -> RecordView | None:
        gate = self._engine.guest.words[_GATE_INDEX]
        if gate >> 32:  # a callback that is called from Python, after a gate's or without one
            if not self._engine.dispatcher.running or self._engine.instruction_outside is not None:
                return None
            gate &= 0xFFFFFFFF
        return self._cache.gate_records.get(gate)

    def current_analysis(self, kind: AnalysisType, remember: bool) -> InstAnalysis | None:
        """Return the analysis of the instruction whose callback is running; None if none is.

        Args:
            remember: whether to enter it in `by_gate`.
        """
        app = self.current_instruction()
        if app is None:
            logger().error("no callback is running, so there is no current instruction")
            return None
        gate = self._engine.guest.words[_GATE_INDEX]
        analysis = self.analysis(app, kind & ~AnalysisType.ANALYSIS_JIT)
        if kind & AnalysisType.ANALYSIS_JIT:
            block = self._cache.block_of(self._cache.record_word(gate & 0xFFFFFFFF, 2) - 1)
            if block is not None:
                load("pydbi.x86.analysis")
                from pydbi.x86.analysis import set_patch

                set_patch(analysis, *self._cache.translation_of(block, app))
        if remember and not gate >> 32:
            self.by_gate[gate] = analysis
        return analysis

    def cached_analysis(self, app: int, kind: AnalysisType) -> InstAnalysis | None:
        """Return the analysis of the instruction at *app* if some block has it, else None."""
        for block in self._cache.blocks_in(app, app + 1):
            if app - block.app in block.starts:
                return self._analysis_in(block, app, kind)
        return None

    def translated_analysis(self, cache_address: int, kind: AnalysisType) -> InstAnalysis | None:
        """Return the analysis of the instruction that *cache_address* belongs to, or None."""
        block = self._cache.block_of(cache_address)
        if block is None or not self._cache.is_live(block):
            return None
        return self._analysis_in(block, block.app_of(cache_address), kind)

    def _analysis_in(self, block: Block, app: int, kind: AnalysisType) -> InstAnalysis:
        load("pydbi.x86.analysis")
        from pydbi.x86.analysis import set_patch

        analysis = self.analysis(app, kind & ~AnalysisType.ANALYSIS_JIT)
        if kind & AnalysisType.ANALYSIS_JIT:
            set_patch(analysis, *self._cache.translation_of(block, app))
        return analysis

    def analysis(self, app: int, kind: int) -> InstAnalysis:
        """Return what is known about the instruction at *app*; remembered until it is forgotten.

        Args:
            kind: bits of `AnalysisType`; what was asked for before stays known.

        Raises:
            DecodeError: there is no instruction.
        """
        load("pydbi.x86.analysis")
        from pydbi.x86.analysis import analyse, ask

        known = self.analyses.get(app)
        if known is None:
            code = self._engine.memory.read_data(app, LONGEST_INSTRUCTION)
            if code is None:  # the end of a page
                code = self._engine.memory.read_data(app, -app & 0xFFF or 1) or b""
            att_syntax = bool(self._engine.options & Options.OPT_ATT_SYNTAX)
            self.analyses[app] = known = analyse(code, app, int(kind), att_syntax=att_syntax)
        return known if known._types & kind == kind else ask(known, int(kind))
