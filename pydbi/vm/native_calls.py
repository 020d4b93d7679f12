"""Native calls of instrumented functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydbi.jit.engine import Engine
from pydbi.vm.arguments import as_callable

if TYPE_CHECKING:
    from pydbi.vm import VM


class NativeCalls:
    """VM's methods about functions that code outside the engine calls."""

    _engine: Engine

    def catchNativeCalls(self, forThread: Callable[[], VM] | None = None) -> None:
        """Run what is instrumented now under this VM when native code calls it. pydbi's own.

        Its pages become non-executable. A call from Python through ctypes, from a callback that
        Python was given, or from any other native code ends in the fault handler, and the function
        runs under this VM: with its callbacks, the caller's registers and stack. Ranges that are
        added later need another call. docs/design/reentry.md says what is not caught.

        Args:
            forThread: returns the VM that is to run calls on a thread other than this; it is asked
                once for each. Without it they run without callbacks, as do calls that a callback
                of this VM makes.

        Raises:
            ValueError: nothing is instrumented, or what Python itself runs on: libc, for example.
            TypeError: *forThread* cannot be called.
        """
        from pydbi.jit.reentry import catcher

        make = None
        if forThread is not None:
            as_callable(forThread)
            machines: list[VM] = []

            def make() -> Engine:
                machines.append(forThread())
                return machines[-1]._engine

        catcher().catch(self._engine, make)

    def releaseNativeCalls(self) -> None:
        """Let native calls run natively again; `catchNativeCalls` need not have been called."""
        from pydbi.jit.reentry import catcher

        catcher().release(self._engine)
