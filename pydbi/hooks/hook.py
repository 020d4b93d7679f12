"""Hooks: native calls of a function are executed by a VM, and return their value natively."""

from __future__ import annotations

import atexit
import ctypes
from _thread import interrupt_main
from collections.abc import Callable
from itertools import count
from threading import Timer
from typing import Any

from pydbi.hooks.activation import HookedCall
from pydbi.hooks.errors import HookError
from pydbi.hooks.machine import CallVM
from pydbi.hooks.patch import Patch
from pydbi.hooks.stacks import stacks
from pydbi.hooks.targets import Target, find_target
from pydbi.host import cpu
from pydbi.host.libc import libc, syscall
from pydbi.jit.broker import broker
from pydbi.jit.states import FPRState, GPRState
from pydbi.jit.stubs import AVX, AVX512, SSE, stubs
from pydbi.types import VMAction
from pydbi.vm import VM
from pydbi.vm.arguments import as_callable

OnCall = Callable[[VM, GPRState, FPRState, HookedCall], "VMAction | None"]

_SYS_ARCH_PRCTL, _ARCH_GET_FS = 158, 0x1003
_LATER = 0.01
"""Seconds until a thread has certainly left the handling of a call."""
_FIELDS = ("stacks", "low", "high", "original", "callback", "errno_offset", "missed")
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_size_t)


class _Record(ctypes.Structure):
    """What the stub knows about a hook: the HOOK_ fields of ``hook.S``."""

    _fields_ = [(name, ctypes.c_uint64) for name in _FIELDS]


class Hook:
    """A function whose native calls are handled in Python.

    It is a context manager too: the hook is removed at its end.

    Attributes:
        function: the function's address.
        name: ``module!symbol``, as far as they are known.
        original: address at which the function can be called natively, the hook bypassed.
        calls: how many calls have been handled, or are being handled.
        unused_address: where nothing is ever executed.
    """

    def __init__(
        self,
        function: Any,
        on_call: OnCall | None = None,
        *,
        on_new_vm: Callable[[VM], object] | None = None,
    ) -> None:
        target = find_target(function)
        if on_call is None and on_new_vm is None:
            raise TypeError("a hook needs on_call, on_new_vm, or both")
        self._on_call = as_callable(on_call) if on_call is not None else None
        self._on_new_vm = as_callable(on_new_vm) if on_new_vm is not None else None
        _refuse_what_runs_natively(target)
        self.function = target.address
        self.name = target.name
        self.calls = 0
        self._counter = count(1)
        self._spare: list[CallVM] = []
        self._record = _Record()
        self.unused_address = ctypes.addressof(self._record)
        self._patch = Patch(target, self.unused_address, _stub())
        self.original = self._patch.original
        self._fill_record()
        _hooks[self.function] = self
        _kept.append(self)
        try:
            self._patch.apply()
        except BaseException:
            del _hooks[self.function]
            raise

    def _fill_record(self) -> None:
        record, places = self._record, stacks()
        self._callback = _CALLBACK(self)
        record.stacks, record.low, record.high = places.table, places.low, places.high
        record.original = self.original
        record.callback = ctypes.cast(self._callback, ctypes.c_void_p).value
        record.errno_offset = _errno_offset() % (1 << 64)

    @property
    def active(self) -> bool:
        """Whether calls of the function come here."""
        return _hooks.get(self.function) is self

    @property
    def missed(self) -> int:
        """Calls that were executed natively, because as many as can be were under way already."""
        return int(self._record.missed)

    def remove(self) -> None:
        """Let calls of the function be native again; those under way go on as they are."""
        if self.active:
            self._patch.undo()
            del _hooks[self.function]
            self._spare.clear()

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<hook of {self.name} at {self.function:#x}{'' if self.active else ', removed'}>"

    def __call__(self, frame: int) -> None:
        """Handle one call; the stub calls this on a stack of ours.

        What is raised is reported by `sys.unraisablehook`, for the callers are native; Ctrl-C is
        raised again when Python goes on.
        """
        self.calls = next(self._counter)
        vm = self._take_vm()
        call = HookedCall(self, vm, frame)
        try:
            if self._on_call is not None:
                answer = self._on_call(vm, vm.getGPRState(), vm.getFPRState(), call)
                if answer is not None and answer is not VMAction.CONTINUE:
                    raise TypeError(f"on_call returns None or CONTINUE, not {answer!r}")
            if not call.done:
                call.run()
        except KeyboardInterrupt:
            _interrupt_later()
        finally:
            call.give_back()
            if self.active:
                self._spare.append(vm)

    def native_address(self, app: int) -> int:
        """Return where to execute natively what is at *app*, though a jump may be written there."""
        for hook in list(_hooks.values()):
            app = hook._patch.native_address(app)
        return self._patch.native_address(app)

    def _take_vm(self) -> CallVM:
        """Return a VM that nobody uses; each call under way has its own."""
        try:
            return self._spare.pop()
        except IndexError:
            vm = CallVM(self.function)
        if self._on_new_vm is not None:
            self._on_new_vm(vm)
        return vm


_hooks: dict[int, Hook] = {}
"""By the function's address."""
_kept: list[Hook] = []
"""All that there ever were: a thread may be on its way to any of them."""


def hook(
    function: Any,
    on_call: OnCall | None = None,
    *,
    on_new_vm: Callable[[VM], object] | None = None,
) -> Hook:
    """Let native calls of a function of this process be executed by a VM.

    Whoever calls it, on whichever thread, gets its value as natively: the VM has the caller's
    registers and stack. Calls that a VM's guest makes are executed by that VM.

    Args:
        function: an address, a function of a `ctypes` library, ``"module!symbol"`` or ``"symbol"``.
        on_call: called as ``on_call(vm, gpr, fpr, call)`` for each call, with the registers that
            the caller has left. When it returns, the function is executed, unless it has been
            already by ``call.run()``, or ``call.skip(result)`` has answered in its place.
        on_new_vm: called as ``on_new_vm(vm)`` for each VM before its first call: here callbacks are
            registered. The function's module is instrumented. There are as many VMs as calls under
            way at the same time.

    Returns:
        The hook: ``remove()`` ends it, and so does the end of a ``with`` block.

    Raises:
        HookError: there is no such function, it is hooked already, or cannot be.
    """
    return Hook(function, on_call, on_new_vm=on_new_vm)


def _interrupt_later() -> None:
    """Let Ctrl-C be raised where Python goes on; here are only native callers to raise it to."""
    timer = Timer(_LATER, interrupt_main)
    timer.daemon = True
    timer.start()


def _refuse_what_runs_natively(target: Target) -> None:
    address = target.address
    if address in _hooks:
        raise HookError(f"{target.name} is hooked already", app_address=address)
    if address in broker().functions or address >> 12 in broker().pages:
        raise HookError(
            f"{target.name} cannot be hooked: Python itself needs it, so no VM executes it",
            app_address=address,
        )


def _stub() -> int:
    vector = SSE
    if cpu.has_avx():
        vector = AVX512 if cpu.has_avx512() else AVX
    return stubs().find(f"hook_entry_{vector}")


def _errno_offset() -> int:
    """Return how far this thread's errno, and every thread's, is from its FS base."""
    base = ctypes.c_uint64()
    syscall(_SYS_ARCH_PRCTL, _ARCH_GET_FS, ctypes.addressof(base))
    return int(getattr(libc, "__errno_location")()) - base.value


@atexit.register
def _remove_all() -> None:
    for active in list(_hooks.values()):
        active.remove()
