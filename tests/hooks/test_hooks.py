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
