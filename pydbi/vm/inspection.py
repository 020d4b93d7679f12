"""What is known about instructions, and about the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydbi.jit.context import SLOT
from pydbi.jit.engine import Engine
from pydbi.jit.stats import Stats
from pydbi.types import AnalysisType
from pydbi.vm.arguments import as_address, as_kind

if TYPE_CHECKING:
    from pydbi.x86.analysis import InstAnalysis

_GATE = SLOT["GATE_INDEX"] >> 3
_DEFAULT = AnalysisType.ANALYSIS_INSTRUCTION | AnalysisType.ANALYSIS_DISASSEMBLY
_DEFAULT_CACHED = _DEFAULT | AnalysisType.ANALYSIS_JIT


class Inspection:
    """VM's methods that tell something."""

    _engine: Engine
    _words: memoryview
    _by_gate: dict[int, InstAnalysis]

    def getInstAnalysis(self, type: AnalysisType = _DEFAULT) -> InstAnalysis:
        """Return the analysis of the instruction whose callback is running.

        Args:
            type: which fields are wanted; others are None, unless they were asked for before.

        Returns:
            None, and an error in the log, if no callback is running.
        """
        if type is _DEFAULT:
            known = self._by_gate.get(self._words[_GATE])
            if known is not None:
                return known
        kind = as_kind(type, AnalysisType)
        current = self._engine.inspector.current_analysis(kind, type is _DEFAULT)
        return cast("InstAnalysis", current)  # as PyQBDI: callbacks need not look for None

    def getCachedInstAnalysis(
        self, address: int, type: AnalysisType = _DEFAULT_CACHED
    ) -> InstAnalysis | None:
        """Return the analysis of the instruction at *address* if it is translated, else None."""
        return self._engine.inspector.cached_analysis(
            as_address(address), as_kind(type, AnalysisType)
        )

    def getJITInstAnalysis(
        self, address: int, type: AnalysisType = _DEFAULT
    ) -> InstAnalysis | None:
        """Return the analysis of the instruction whose translation contains *address*.

        None if that is no cache address of an instruction.
        """
        return self._engine.inspector.translated_analysis(
            as_address(address), as_kind(type, AnalysisType)
        )

    # The cache.

    def clearCache(self, start: int, end: int) -> None:
        """Forget translations of [*start*, *end*); the code there is read anew."""
        self._engine.invalidation.forget(as_address(start), as_address(end))

    def clearAllCache(self) -> None:
        """Forget all translations.

        From a callback too: what is executing just now goes on to its block's end.
        """
        self._engine.invalidation.forget_all()

    def precacheBasicBlock(self, pc: int) -> bool:
        """Translate the block at *pc* now; False if it is there already or not instrumented."""
        pc = as_address(pc)
        return pc in self._engine.ranges and self._engine.precache(pc)

    @property
    def stats(self) -> Stats:
        """Counters of what the engine did so far."""
        return self._engine.snapshot()
