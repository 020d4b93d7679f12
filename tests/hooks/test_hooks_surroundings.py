"""What else happens in a process with hooks: signals, threads, faults, other guests and hooks."""

from __future__ import annotations

from collections.abc import Callable

from tests.child import run_in_child

Compiled = Callable[..., str]


def interrupt_inside(path: str) -> None:
    """Press Ctrl-C in a hooked call that takes long."""
    import ctypes
    import signal
    import sys
    import threading
    import time

    import pydbi

    library = ctypes.CDLL(path)
    reported = []
    sys.unraisablehook = lambda report: reported.append(report.exc_value)
    main = threading.main_thread().ident
    threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pydbi.hook(library.spin, lambda vm, gpr, fpr, call: None) as hook:
        try:
            library.call_spin(ctypes.c_long(200_000_000))
            time.sleep(5)
        except KeyboardInterrupt:
            print("interrupted", hook.calls, reported)


def test_ctrl_c(compiled: Compiled) -> None:
    """Ctrl-C ends the handling at once; it is raised in Python when the function has returned."""
    output = run_in_child(interrupt_inside, compiled("hooked.c"), timeout=60)
    assert output == "interrupted 1 []\n"


def share_the_lock(path: str) -> None:
    """Compute in a hooked call on a thread that Python does not know, and in Python."""
    import ctypes
    import time

    import pydbi

    library = ctypes.CDLL(path)
    turns = 0
    begun = time.monotonic()
    with pydbi.hook(library.spin, lambda vm, gpr, fpr, call: None) as hook:
        for _ in range(2):
            library.start_spinning(ctypes.c_long(100_000_000))
            while not hook.calls:
                time.sleep(0.001)
            before = turns
            while not library.has_spun():
                turns += 1
                time.sleep(0.001)
            assert turns - before > 3, (turns - before, time.monotonic() - begun)


def test_other_threads_go_on(compiled: Compiled) -> None:
    """While a hooked call computes on one thread, Python's others have their turns."""
    run_in_child(share_the_lock, compiled("hooked.c"), timeout=60)


def hook_made_code() -> None:
    """Hook a function on a page that is writable and executable."""
    import ctypes
    import mmap

    import pydbi

    everything = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=everything)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    page[64:71] = bytes.fromhex("488d443f0190c3")  # lea rax, [rdi + rdi + 1]; nop; ret
    function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(address + 64)
    seen = []
    with pydbi.hook(function, lambda vm, gpr, fpr, call: seen.append(gpr.rdi)) as hook:
        assert [function(number) for number in range(3)] == [1, 3, 5]
    assert seen == [0, 1, 2]
    assert hook.name == f"{address + 64:#x}"
    assert function(7) == 15


def test_code_without_a_file() -> None:
    """Code that a program has made itself is hooked by its address, writable or not."""
    run_in_child(hook_made_code, timeout=60)


def fault_inside(path: str) -> None:
    """Let a hooked function fault, with a handler of the program's own."""
    import ctypes
    import sys

    import pydbi

    library = ctypes.CDLL(path)
    library.handle_faults()
    reported = []
    sys.unraisablehook = lambda report: reported.append(report.exc_value)
    with pydbi.hook(library.peek, lambda vm, gpr, fpr, call: None) as hook:
        assert library.call_peek(b"A") == 100065
        assert library.call_peek(None) == -77
        assert library.call_peek(b"B") == 100066
    assert [type(error) for error in reported] == [pydbi.GuestFault]
    assert reported[0].app_address == hook.function or reported[0].fault_address == 0


def test_faults_are_the_programs(compiled: Compiled) -> None:
    """A fault is reported, and happens once more natively, for the program's own handler."""
    run_in_child(fault_inside, compiled("hooked.c"), timeout=60)


def guests_see_the_original(path: str) -> None:
    """Run a hooked function in a VM: no jump is there, and no call is handled."""
    import ctypes

    import pydbi

    library = ctypes.CDLL(path)
    address = ctypes.cast(library.fibonacci, ctypes.c_void_p).value
    native = pydbi.readMemory(address, 16)
    vm = pydbi.VM()
    vm.addInstrumentedModuleFromAddr(address)
    pydbi.allocateVirtualStack(vm.getGPRState(), 1 << 16)
    first = []

    def on_instruction(vm, gpr, fpr, data):
        if gpr.rip == address:
            first.append(vm.getInstAnalysis().disassembly)
        return pydbi.CONTINUE

    vm.addCodeCB(pydbi.PREINST, on_instruction, None)
    with pydbi.hook(address, lambda vm, gpr, fpr, call: None) as hook:
        assert pydbi.readMemory(address, 16) != native
        assert vm.call(address, [10]) == (True, 55)
        assert hook.calls == 0
    assert pydbi.readMemory(address, 16) == native
    seen = set(first)
    vm.clearAllCache()
    first.clear()
    assert vm.call(address, [10]) == (True, 55)
    assert set(first) == seen
    permissions = [m.permission for m in pydbi.getCurrentProcessMaps() if address in m.range]
    assert permissions == [pydbi.PF_READ | pydbi.PF_EXEC]


def test_guests_see_the_original_code(compiled: Compiled) -> None:
    """A VM executes a hooked function as it was; the page's permissions are put back."""
    run_in_child(guests_see_the_original, compiled("hooked.c"), timeout=60)


def nested_hooks(path: str) -> None:
    """Two hooks: one function's callers call the other natively, from inside libc's qsort."""
    import ctypes

    import pydbi

    library = ctypes.CDLL(path)
    order = []

    def outer(vm, gpr, fpr, call):
        order.append("sort")
        vm.removeAllInstrumentedRanges()  # so that it is executed natively

    def inner(vm, gpr, fpr, call):
        order.append("compare")

    values = (ctypes.c_long * 3)(3, 1, 2)
    with pydbi.hook(library.sort, outer), pydbi.hook(library.compare, inner) as comparing:
        library.sort(values, ctypes.c_long(3))
    assert list(values) == [1, 2, 3]
    assert order == ["sort"] + ["compare"] * comparing.calls
    assert comparing.calls >= 2


def test_hooks_are_independent(compiled: Compiled) -> None:
    """A function that goes on natively from a hook meets the next hook."""
    run_in_child(nested_hooks, compiled("hooked.c"), timeout=60)


def leave_hooked(path: str) -> None:
    """End Python with a hook in force, which something calls at exit."""
    import atexit
    import ctypes

    import pydbi

    library = ctypes.CDLL(path)
    atexit.register(lambda: print(library.call_fibonacci(ctypes.c_long(5)), flush=True))
    hook = pydbi.hook(library.fibonacci, lambda vm, gpr, fpr, call: None)
    ctypes.CDLL(None).on_exit(library.call_fibonacci, None)
    atexit.register(lambda: print(hook.active, flush=True))


def test_end_of_python(compiled: Compiled) -> None:
    """At its end Python removes what is hooked; later calls are native."""
    assert run_in_child(leave_hooked, compiled("hooked.c"), timeout=60) == "True\n5\n"
