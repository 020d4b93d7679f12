"""Which instructions a callback is due at, beyond their addresses."""

from __future__ import annotations

from pydbi.jit.instrumentation import Selector
from pydbi.jit.memory_callbacks import READ, WRITE
from pydbi.x86.accesses import accesses_of
from pydbi.x86.llvm import opcode_name_of


def has_mnemonic(pattern: str) -> Selector:
    """Select instructions by LLVM's opcode name, as PyQBDI does.

    Case does not matter. From a ``*`` on anything will do; without one, what follows *pattern* in
    the name must be nothing, or begin with a digit or an underscore: ``ADD`` selects ``ADD64rr``,
    but not ``ADDPSrr``.
    """
    stem, wildcard, _ = pattern.upper().partition("*")
    known: dict[str, bool] = {}

    def matches(name: str) -> bool:
        upper = name.upper()
        rest = upper[len(stem) :]
        return upper.startswith(stem) and bool(wildcard or not rest or rest[0] in "0123456789_")

    def selects(code: bytes) -> bool:
        name = opcode_name_of(code)
        if name not in known:
            known[name] = matches(name)
        return known[name]

    return selects


def accesses_memory(kind: int) -> Selector:
    """Select instructions that read memory, write it, or either, as *kind* says."""

    def selects(code: bytes) -> bool:
        return any((WRITE if access.is_write else READ) & kind for access in accesses_of(code))

    return selects
