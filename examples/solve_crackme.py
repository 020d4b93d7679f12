"""A password found by counting instructions.

``crackme.c`` scrambles its input and compares it character by character. Nothing of the password
can be read in it, but it executes more instructions the more characters are right. So each
character is found by itself: all are tried, and the one with the highest count is kept.

It needs a C compiler named ``cc``.
"""

from __future__ import annotations

import ctypes
import pathlib
import string
import subprocess
import tempfile

import pydbi as pyqbdi

ALPHABET = string.ascii_lowercase + string.digits + " "
LONGEST = 32


def on_instruction(
    vm: pyqbdi.VM, gpr: pyqbdi.GPRState, fpr: pyqbdi.FPRState, counter: list[int]
) -> pyqbdi.VMAction:
    """Count."""
    counter[0] += 1
    return pyqbdi.CONTINUE


class Oracle:
    """The function under instrumentation: says how far it got with a password."""

    def __init__(self, function: int) -> None:
        self.function = function
        self.counter = [0]
        self.vm = pyqbdi.VM()
        self.stack = pyqbdi.allocateVirtualStack(self.vm.getGPRState(), 0x10000)
        self.vm.addInstrumentedModuleFromAddr(function)
        self.vm.addCodeCB(pyqbdi.PREINST, on_instruction, self.counter)

    def ask(self, password: str) -> tuple[bool, int]:
        """Return whether the password is accepted, and after how many instructions."""
        text = ctypes.create_string_buffer(password.encode(), LONGEST + 1)
        self.counter[0] = 0
        _, result = self.vm.call(self.function, [ctypes.addressof(text)])
        return bool(result), self.counter[0]


def solve(oracle: Oracle) -> str:
    """Return the password, or the best beginning of one that was found."""
    password = ""
    while len(password) < LONGEST:
        answers = {letter: oracle.ask(password + letter) for letter in ALPHABET}
        best = max(answers, key=answers.__getitem__)
        password += best
        accepted, instructions = answers[best]
        print(f"{password!r:12} {instructions:4} instructions")
        if accepted:
            break
    return password


def main() -> None:
    """Compile the crackme and solve it."""
    source = pathlib.Path(__file__).with_name("crackme.c")
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "crackme.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
        check = ctypes.CDLL(str(library)).check
    oracle = Oracle(ctypes.cast(check, ctypes.c_void_p).value)
    password = solve(oracle)
    print(f"the password is {password!r}; natively the crackme says {check(password.encode())}")
    pyqbdi.alignedFree(oracle.stack)


if __name__ == "__main__":
    main()
