"""What a run imports while a guest is under way, it imports with signal handlers held back.

CPython's importer takes an OSError, which a handler may raise, for a missing file (`host/late.py`).
"""

from __future__ import annotations

import pytest

from tests.child import run_in_child
from tests.survive.test_transparency_traces import INSTRUMENTS

ASKING = ["asking for analyses", "asking for accesses", "a rule", "a bad access"]


def _imports(kind: str) -> None:
    import signal
    import sys

    import pydbi
    from tests.survive.test_transparency_traces import INSTRUMENTS, TEXTS, guest_of

    open_imports, imports = [], []

    class Watch:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            imports.append(name)
            if signal.SIGALRM not in signal.pthread_sigmask(signal.SIG_BLOCK, []):
                open_imports.append(name)

    def analyse(vm, gpr, fpr, data):
        analysis = vm.getInstAnalysis(pydbi.AnalysisType(15))
        assert analysis.disassembly
        assert analysis.mnemonic
        assert analysis.operands is not None
        return pydbi.CONTINUE

    def accesses(vm, gpr, fpr, data):
        vm.getInstMemoryAccess()
        return pydbi.CONTINUE

    def rule(vm, analysis, data):
        return [pydbi.InstrRuleDataCBK(analyse, None, pydbi.PREINST)]

    bad = "mov rdx, [rip + data]; xor eax, eax; add [rax + 8], rdx" * (kind == "a bad access")
    g = guest_of("\n".join([*TEXTS.values(), bad]))
    if kind == "asking for analyses":
        g.vm.addCodeCB(pydbi.PREINST, analyse, None)
    elif kind == "asking for accesses":
        g.vm.addMemAccessCB(pydbi.MEMORY_READ_WRITE, accesses, None)
    elif kind == "a rule":
        g.vm.addInstrRule(rule, pydbi.ANALYSIS_INSTRUCTION, None)
    elif kind == "a bad access":
        g.vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE)
    else:
        INSTRUMENTS[kind](g)
    sys.meta_path.insert(0, Watch)
    try:
        g.run()
        assert not bad
    except pydbi.GuestFault:
        assert bad
    finally:
        sys.meta_path.remove(Watch)
    assert imports
    assert open_imports == [], open_imports


@pytest.mark.parametrize("kind", [*INSTRUMENTS, *ASKING])
def test_imports_of_a_run(kind: str) -> None:
    """Whatever the guest does and whatever watches it: there are some, and all are guarded."""
    run_in_child(_imports, kind)
