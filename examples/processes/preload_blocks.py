"""How often main's program executes each basic block: a script for PyQBDIPreload's protocol.

    python -m pydbi.preload examples/processes/preload_blocks.py PROGRAM [ARGUMENT ...]

With `import pyqbdi` it runs under PyQBDIPreload.
"""

from __future__ import annotations

import collections
import sys

import pydbi as pyqbdi

_SHOWN = 5


def on_block(
    vm: pyqbdi.VM,
    state: pyqbdi.VMState,
    gpr: pyqbdi.GPRState,
    fpr: pyqbdi.FPRState,
    counts: collections.Counter[int],
) -> pyqbdi.VMAction:
    """Count the block."""
    counts[state.basicBlockStart] += 1
    return pyqbdi.CONTINUE


def pyqbdipreload_on_run(vm: pyqbdi.VM, start: int, stop: int) -> None:
    """Run main, and show which blocks were executed most."""
    counts: collections.Counter[int] = collections.Counter()
    vm.addVMEventCB(pyqbdi.BASIC_BLOCK_ENTRY, on_block, counts)
    vm.run(start, stop)
    total = sum(counts.values())
    print(f"{total} blocks, {len(counts)} different ones; most often:", file=sys.stderr)
    for address, count in counts.most_common(_SHOWN):
        print(f"{count:9} times main{address - start:+#x}", file=sys.stderr)
