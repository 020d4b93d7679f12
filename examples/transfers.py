"""What a function calls outside of the instrumented code, with which arguments and results.

Only ``bsearch`` of the C library is instrumented. Each time it calls the comparison function it
leaves the instrumented range, which is EXEC_TRANSFER_CALL, and comes back, EXEC_TRANSFER_RETURN.
So the binary search can be watched without a change to either function.
"""

from __future__ import annotations

import ctypes

import pydbi as pyqbdi

WORDS = (b"ant", b"bee", b"cat", b"dog", b"emu", b"fox", b"gnu", b"hen", b"ibis", b"jay")
WORD_SIZE = 8
SIZE_OF_BSEARCH = 128  # at most: what lies behind it is never reached


def text_at(address: int) -> str:
    """Return the text at an address, which ends in a zero."""
    return pyqbdi.readMemory(address, WORD_SIZE).split(b"\0")[0].decode()


def on_transfer(
    vm: pyqbdi.VM,
    state: pyqbdi.VMState,
    gpr: pyqbdi.GPRState,
    fpr: pyqbdi.FPRState,
    compared: list[str],
) -> pyqbdi.VMAction:
    """Note the arguments of a call, and what its result means."""
    if state.event & pyqbdi.EXEC_TRANSFER_CALL == pyqbdi.EXEC_TRANSFER_CALL:
        compared.append(f"{text_at(gpr.rdi)} and {text_at(gpr.rsi)}")
    else:
        result = ctypes.c_int32(gpr.rax & 0xFFFF_FFFF).value
        compared[-1] += ": " + ("earlier" if result < 0 else "later" if result else "the same")
    return pyqbdi.CONTINUE


def main() -> None:
    """Search a word and print the comparisons."""
    library = ctypes.CDLL(None)
    function = ctypes.cast(library.bsearch, ctypes.c_void_p).value
    compare = ctypes.cast(library.strcmp, ctypes.c_void_p).value
    table = ctypes.create_string_buffer(b"".join(word.ljust(WORD_SIZE, b"\0") for word in WORDS))
    key = ctypes.create_string_buffer(b"gnu", WORD_SIZE)
    vm = pyqbdi.VM()
    stack = pyqbdi.allocateVirtualStack(vm.getGPRState(), 0x10000)
    vm.addInstrumentedRange(function, function + SIZE_OF_BSEARCH)

    compared: list[str] = []
    events = pyqbdi.EXEC_TRANSFER_CALL | pyqbdi.EXEC_TRANSFER_RETURN
    vm.addVMEventCB(events, on_transfer, compared)
    arguments = [ctypes.addressof(key), ctypes.addressof(table), len(WORDS), WORD_SIZE, compare]
    _, found = vm.call(function, arguments)
    print(*compared, sep="\n")
    print(f"found {text_at(found)} as number {(found - ctypes.addressof(table)) // WORD_SIZE}")
    pyqbdi.alignedFree(stack)


if __name__ == "__main__":
    main()
