"""Each comparison that qsort makes, seen from inside: a hook on a function that C code calls.

`qsort` itself runs natively here, at its full speed; only its comparator, which is a function of
the C library too, is executed by a VM, which counts its instructions.
"""

from __future__ import annotations

import ctypes

import pydbi

WORDS = [b"pear", b"apple", b"fig", b"quince", b"cherry", b"banana"]


def main() -> None:
    libc = ctypes.CDLL("libc.so.6")
    array = (ctypes.c_char * 8 * len(WORDS))(*(tuple(word.ljust(8, b"\0")) for word in WORDS))
    instructions = [0]

    def on_new_vm(vm: pydbi.VM) -> None:
        """Register what is to be called in each VM."""
        vm.addCodeCB(pydbi.PREINST, on_instruction, None)

    def on_instruction(
        vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object
    ) -> pydbi.VMAction:
        """Count."""
        instructions[0] += 1
        return pydbi.CONTINUE

    def on_call(
        vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, call: pydbi.HookedCall
    ) -> None:
        """Show the arguments, execute the function, show its result."""
        left, right = ctypes.string_at(gpr.rdi), ctypes.string_at(gpr.rsi)
        call.run()
        sign = ctypes.c_int32(gpr.rax & 0xFFFFFFFF).value
        relation = "<" if sign < 0 else ">" if sign else "="
        print(f"{left.decode():>8} {relation} {right.decode()}")

    with pydbi.hook("libc.so.6!strcasecmp", on_call, on_new_vm=on_new_vm) as hook:
        libc.qsort(array, len(WORDS), 8, libc.strcasecmp)
    print(" ".join(bytes(entry).rstrip(b"\0").decode() for entry in array))
    print(f"{hook.calls} comparisons, {instructions[0]} instructions")


if __name__ == "__main__":
    main()
