"""`pydbi.hook`: what native callers see of a hooked function, and what Python sees of its calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.child import run_in_child

Compiled = Callable[..., str]


def call_hooked(path: str, hooked: str, caller: str, real: bool, arguments: list[int]) -> None:
    """Call *caller* natively, hooked, and natively again; print the results and the counts."""
    import ctypes

    import pydbi

    library = ctypes.CDLL(path)
    counted = []

    def on_instruction(vm, gpr, fpr, data):
        counted.append(gpr.rip)
        return pydbi.CONTINUE

    def on_new_vm(vm):
        vm.addCodeCB(pydbi.PREINST, on_instruction, None)

    function = getattr(library, caller)
    function.restype = ctypes.c_double if real else ctypes.c_long
    words = [ctypes.c_long(value) for value in arguments]
    native = function(*words)
    with pydbi.hook(getattr(library, hooked), on_new_vm=on_new_vm) as hook:
        results = [function(*words) for _ in range(3)]
    calls, instructions = hook.calls, len(counted)
    assert results == [native] * 3, (results, native)
    assert function(*words) == native
    assert hook.calls == calls
    assert len(counted) == instructions
    print(calls, instructions)


CASES: list[tuple[str, str, bool, list[int], int]] = [
    ("mixed", "call_mixed", True, [], 3),
    ("wide", "call_wide", True, [], 3),
    ("make_pair", "call_pair", True, [], 3),
    ("make_large", "call_pair", True, [], 3),
    ("add_up", "call_add_up", False, [], 3),
    ("fibonacci", "call_fibonacci", False, [15], 3),
    ("fibonacci", "call_keeping", False, [10], 3),
    ("descend", "call_descend", False, [6], 3),
    ("call_descend", "call_descend", False, [6], 3),
    ("fail_with", "call_fail_with", False, [5], 3),
    ("read_errno", "call_read_errno", False, [33], 3),
    ("leap", "call_leap", False, [4], 3),
    ("short_padded", "call_short_padded", False, [4], 3),
    ("misaligned", "call_misaligned", False, [4], 3),
    ("looping", "call_looping", False, [4], 3),
    ("nothing", "vectors_survive", False, [], 3),
    ("fibonacci", "threads", False, [4, 20], 240),
    ("meet", "call_meet", False, [], 6),
    ("call_meet", "call_meet", False, [], 3),
]


@pytest.mark.parametrize(("hooked", "caller", "real", "arguments", "calls"), CASES)
def test_callers_get_the_native_value(
    compiled: Compiled, hooked: str, caller: str, real: bool, arguments: list[int], calls: int
) -> None:
    """Arguments, results, registers, errno, longjmp, threads: as natively; each call is seen once.

    Recursive calls are executed by the VM that executes the outer one.
    """
    path = compiled("hooked.c")
    counts = run_in_child(call_hooked, path, hooked, caller, real, arguments, timeout=60).split()
    assert int(counts[0]) == calls
    assert int(counts[1]) >= calls * 2


@pytest.mark.parametrize("hooked", ["refuse", "through", "call_refuse"])
@pytest.mark.parametrize("argument", [4, 14])
def test_exceptions_pass_through(compiled: Compiled, hooked: str, argument: int) -> None:
    """A C++ exception reaches its handler from and through a hooked function."""
    arguments = (hooked, "call_refuse", False, [argument])
    output = run_in_child(call_hooked, compiled("thrower.cpp"), *arguments, timeout=60)
    assert output.startswith("3 ")


def watch_comparisons(path: str) -> None:
    """Sort with a hooked comparison, natively called by libc."""
    import ctypes

    import pydbi

    library = ctypes.CDLL(path)
    values = (ctypes.c_long * 100)(*((number * 7919) % 1000 for number in range(100)))
    seen = []

    def on_call(vm, gpr, fpr, call):
        left, right = (ctypes.c_long.from_address(place).value for place in (gpr.rdi, gpr.rsi))
        call.run()
        assert ctypes.c_int32(gpr.rax & 0xFFFFFFFF).value == (left > right) - (left < right)
        seen.append((left, right))

    with pydbi.hook(library.compare, on_call) as hook:
        library.sort(values, ctypes.c_long(len(values)))
    assert list(values) == sorted(values)
    assert len(seen) == hook.calls > 500


def test_arguments_and_results_are_seen(compiled: Compiled) -> None:
    """on_call sees the arguments, and after ``call.run()`` the result, of every call of qsort's."""
    run_in_child(watch_comparisons, compiled("hooked.c"), timeout=60)


def answer_in_place(path: str) -> None:
    """Replace results, before and after, and call the original natively."""
    import ctypes

    import pydbi

    library = ctypes.CDLL(path)

    def skip(vm, gpr, fpr, call):
        call.skip(gpr.rdi + 1000)

    def double_it(vm, gpr, fpr, call):
        call.run()
        gpr.rax *= 2

    def with_other_argument(vm, gpr, fpr, call):
        gpr.rdi += 1
        return pydbi.CONTINUE

    def natively(vm, gpr, fpr, call):
        original = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(call.hook.original)
        call.skip(original(gpr.rdi) + library.fibonacci(ctypes.c_long(4)))

    expected = {skip: 1010, double_it: 110, with_other_argument: 89, natively: 58}
    for on_call, value in expected.items():
        with pydbi.hook(library.fibonacci, on_call) as hook:
            assert library.call_fibonacci(ctypes.c_long(10)) == value, on_call
        assert hook.calls == 1
    assert library.call_fibonacci(ctypes.c_long(10)) == 55


def test_calls_can_be_answered(compiled: Compiled) -> None:
    """skip answers, registers can be changed on both sides, and the original called natively.

    Calls that Python makes while it handles one are native: they do not come back to it.
    """
    run_in_child(answer_in_place, compiled("hooked.c"), timeout=60)


def stop_and_raise(path: str) -> None:
    """End handling in every unusual way; the function's result must be right all the same."""
    import ctypes
    import sys

    import pydbi

    library = ctypes.CDLL(path)
    reported = []

    def note(report):
        reported.append((report.exc_type, f"{report.err_msg} {report.object!r}"))

    sys.unraisablehook = note

    def at_the_ninth(action):
        def on_new_vm(vm):
            count = [0]

            def on_instruction(vm, gpr, fpr, data):
                count[0] += 1
                return action() if count[0] == 9 else pydbi.CONTINUE

            vm.addCodeCB(pydbi.PREINST, on_instruction, None)

        return on_new_vm

    def fail(*arguments):
        raise LookupError("on purpose")

    def answer_nonsense(vm, gpr, fpr, call):
        return 17

    def instrument_nothing(vm):
        vm.removeAllInstrumentedRanges()

    cases = [
        (fail, None, [LookupError]),
        (answer_nonsense, None, [TypeError]),
        (None, fail, [LookupError]),
        (None, at_the_ninth(fail), [LookupError]),
        (None, at_the_ninth(lambda: 42), [TypeError]),
        (None, at_the_ninth(lambda: pydbi.STOP), []),
        (None, instrument_nothing, []),
        (lambda vm, gpr, fpr, call: call.run(timeout=1e-9), None, [pydbi.GuestTimeout]),
    ]
    for on_call, on_new_vm, kinds in cases:
        reported.clear()
        number = ctypes.c_long(20_000_000 if pydbi.GuestTimeout in kinds else 10)
        expected = library.call_spin(number)
        with pydbi.hook(library.spin, on_call, on_new_vm=on_new_vm) as hook:
            assert library.call_spin(number) == expected, (on_call, on_new_vm)
        assert [kind for kind, _ in reported] == kinds, reported
        assert all("!spin" in text for _, text in reported)
        assert hook.calls == 1


def test_exceptions_leave_the_rest_native(compiled: Compiled) -> None:
    """What callbacks raise is reported; the function goes on natively from where it is."""
    run_in_child(stop_and_raise, compiled("hooked.c"), timeout=60)


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


MISTAKES: list[tuple[Any, type[Exception], str]] = [
    ("libc.so.6!nowhere", ValueError, "libc.so.6 has no function nowhere"),
    ("nowhere.so!f", ValueError, "no module nowhere.so is loaded"),
    ("nowhere_at_all", ValueError, "the function nowhere_at_all is nowhere here"),
    ("libc.so.6!malloc", ValueError, "libc.so.6!malloc cannot be hooked: Python itself needs it"),
    ("PyObject_Repr", ValueError, "PyObject_Repr cannot be hooked: Python itself needs it"),
    (16, ValueError, "no function at 0x10: nothing is mapped there"),
    (id(object), ValueError, "it is not executable"),
    (-1, TypeError, "function"),
    (None, TypeError, "function"),
    (1.5, TypeError, "function"),
]


@pytest.mark.parametrize(("function", "kind", "message"), MISTAKES)
def test_mistakes_are_named(function: Any, kind: type[Exception], message: str) -> None:
    """What cannot be hooked raises an error that says why, and nothing is changed."""
    import pydbi

    with pytest.raises(kind, match=message):
        pydbi.hook(function, lambda vm, gpr, fpr, call: None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny", "is only 3 bytes long"),
        ("back", "back jumps back to its own first bytes"),
    ],
)
def test_no_room_for_the_jump(compiled: Compiled, name: str, message: str) -> None:
    """A function that a jump does not fit into is left alone."""
    import pydbi

    path = compiled("hooked.c")
    library = ctypes.CDLL(path)
    for function in (getattr(library, name), f"{Path(path).name}!{name}"):
        with pytest.raises(pydbi.HookError, match=message):
            pydbi.hook(function, lambda vm, gpr, fpr, call: None)


def test_wrong_use() -> None:
    """A hook needs something callable, and a function has one hook at a time."""
    import pydbi

    function = ctypes.CDLL("libz.so.1").adler32
    with pytest.raises(TypeError, match="needs on_call"):
        pydbi.hook(function)
    with pytest.raises(TypeError, match="cannot be"):
        pydbi.hook(function, 7)  # type: ignore[arg-type]
    with pydbi.hook(function, lambda vm, gpr, fpr, call: None) as hook:
        with pytest.raises(pydbi.HookError, match="is hooked already"):
            pydbi.hook("libz.so.1!adler32", lambda vm, gpr, fpr, call: None)
        assert hook.active
    assert not hook.active
    hook.remove()
    assert "removed" in repr(hook)
