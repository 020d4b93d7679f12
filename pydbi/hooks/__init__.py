"""Hooks on functions of this process: see `hook`."""

from __future__ import annotations

from pydbi.hooks.activation import HookedCall
from pydbi.hooks.errors import HookError
from pydbi.hooks.hook import Hook, hook

__all__ = ["Hook", "HookError", "HookedCall", "hook"]
