"""Which calls a running process makes of one function: a script for ``pydbi attach``.

    python -m pydbi attach PID examples/processes/watch_function.py libc.so.6!getenv

The function is executed by a VM, which counts its instructions. The output is the process's own.
"""

from __future__ import annotations

import sys

import pydbi

_MOST_TEXT, _PAGE = 32, 4096


def text_at(address: int) -> str:
    """Return the beginning of the text at *address*, or the address if there is none."""
    try:
        data = pydbi.readMemory(address, min(_MOST_TEXT, -address % _PAGE or _PAGE))
    except OSError:
        return f"{address:#x}"
    text, zero, _ = data.partition(b"\0")
    return repr(text.decode()) if zero and text.isascii() and text else f"{address:#x}"


counted = {}


def on_new_vm(vm: pydbi.VM) -> None:
    """Register what is to be called in each VM."""
    vm.addCodeCB(pydbi.PREINST, on_instruction, None)


def on_instruction(
    vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object
) -> pydbi.VMAction:
    """Count."""
    counted[vm] = counted.get(vm, 0) + 1
    return pydbi.CONTINUE


def on_call(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, call: pydbi.HookedCall) -> None:
    """Show the call, and what it returned."""
    arguments = ", ".join(map(text_at, (gpr.rdi, gpr.rsi)))
    counted[vm] = 0
    call.run()
    print(f"{call.hook.name}({arguments}) = {text_at(gpr.rax)}: {counted[vm]} instructions")


hook = pydbi.hook(sys.argv[1], on_call, on_new_vm=on_new_vm)
print(f"watching {hook.name}")
