"""GPRState and FPRState: the guest's registers as Python sees them.

Both are ctypes structures laid over the beginning of a context, so inside a callback they are the
registers themselves: a read costs about 15 ns, and a write takes effect when the guest goes on.
Made by themselves (``GPRState()``) or copied they stand alone.
"""

from __future__ import annotations

from pydbi.jit.fpr import FPRState
from pydbi.jit.gpr import GPRState

__all__ = ["FPRState", "GPRState"]
