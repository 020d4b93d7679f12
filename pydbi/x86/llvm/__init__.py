"""LLVM's opcode names, which PyQBDI gives as mnemonics: ``ADD64ri8``, ``VMOVUPSYrm``, ``JCC_1``.

They are made from the encoding by rule: tables of templates, one for each opcode map.
"""

from __future__ import annotations

from pydbi.x86.llvm.naming import opcode_name, opcode_name_of

__all__ = ["opcode_name", "opcode_name_of"]
