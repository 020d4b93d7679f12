"""What can be wrong with a function that is to be hooked."""

from __future__ import annotations

from pydbi.errors import PydbiError


class HookError(PydbiError, ValueError):
    """A function cannot be hooked; the message names it, and says why."""
