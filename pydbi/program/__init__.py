"""Whole programs, from the loader's first instruction: `Program`."""

from __future__ import annotations

from pydbi.program.calls import Syscall
from pydbi.program.errors import ProgramError
from pydbi.program.modules import Module
from pydbi.program.program import Program

__all__ = ["Module", "Program", "ProgramError", "Syscall"]
