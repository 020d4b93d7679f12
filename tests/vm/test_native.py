"""What runs natively in the midst of translated code, and what calls back into it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]

SOURCE = r"""
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

long heap(long rounds) {
    void *kept[64] = {0};
    unsigned long sum = 0, state = 12345;
    for (long i = 0; i < rounds; i++) {
        state = state * 6364136223846793005ul + 1442695040888963407ul;
        unsigned slot = state >> 58, size = state >> 40 & 0xfff;
        switch (state >> 33 & 3) {
        case 0: free(kept[slot]); kept[slot] = malloc(size + 8); break;
        case 1: free(kept[slot]); kept[slot] = calloc(2, size + 8); break;
        case 2: kept[slot] = realloc(kept[slot], size + 16); break;
        case 3: free(kept[slot]); kept[slot] = 0;
                if (posix_memalign(&kept[slot], 64, size + 8)) return -1;
                if ((unsigned long)kept[slot] & 63) return -2;
        }
        memset(kept[slot], i & 255, size / 2 + 4);
        sum = sum * 31 + *(unsigned char *)kept[slot];
    }
    for (int i = 0; i < 64; i++) free(kept[i]);
    return sum >> 1;
}

typedef long (*callback)(long);
long call_back(callback function, long count) {
    long sum = 0;
    for (long i = 0; i < count; i++) sum = sum * 3 + function(i);
    return sum;
}

static jmp_buf place;
long jump_over(callback function, long value) {
    int back = setjmp(place);
    if (back) return back * 10;
    return function(value);
}
long jump_back(long value) { longjmp(place, value); }

long fork_and_wait(long status) {
    pid_t child = fork();
    if (child == 0) _exit(status);
    int found;
    if (waitpid(child, &found, 0) != child) return -1;
    return WEXITSTATUS(found);
}

static void *work(void *argument) {
    long *number = argument, sum = 0;
    for (long i = 0; i < 1000; i++) sum += i ^ *number;
    *number = sum;
    return argument;
}
long threads(long count) {
    pthread_t thread[16];
    long numbers[16], sum = 0;
    for (long i = 0; i < count; i++) {
        numbers[i] = i;
        if (pthread_create(&thread[i], 0, work, &numbers[i])) return -1;
    }
    for (long i = 0; i < count; i++) {
        void *result;
        if (pthread_join(thread[i], &result) || result != &numbers[i]) return -2;
        sum = sum * 7 + numbers[i];
    }
    return sum;
}

long run_shell(const char *command) { return WEXITSTATUS(system(command)); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled functions above."""
    import shutil
    import subprocess

    if shutil.which("gcc") is None:
        pytest.skip("gcc is needed to build the guest's functions")
    folder = tmp_path_factory.mktemp("native")
    (folder / "guest.c").write_text(SOURCE)
    target = folder / "libguest.so"
    command = ["gcc", "-O1", "-fPIC", "-shared", "-pthread", "guest.c", "-o", str(target)]
    subprocess.run(command, cwd=folder, check=True)
    return str(target)


class Machine:
    """The library under a VM; its functions are called natively and translated."""

    def __init__(self, path: str, instrumented: bool) -> None:
        import ctypes

        import pydbi

        self.library = ctypes.CDLL(path)
        self.vm = pydbi.VM()
        self.seen = 0
        pydbi.allocateVirtualStack(self.vm.getGPRState(), 1 << 20)
        assert self.vm.addInstrumentedModule("libguest.so")
        if instrumented:
            self.vm.addCodeCB(pydbi.PREINST, self.count, None)
            self.vm.addCodeCB(pydbi.POSTINST, self.count, None)

    def count(self, *_: object) -> object:
        """A callback that allocates, as most do."""
        import pydbi

        self.seen += 1
        if self.seen % 100 == 0:
            assert len([str(number) * 20 for number in range(5)]) == 5
        return pydbi.CONTINUE

    def address(self, name: str) -> int:
        """Where a function is."""
        import ctypes

        found = ctypes.cast(getattr(self.library, name), ctypes.c_void_p).value
        assert found
        return found

    def native(self, name: str, *arguments: object) -> int:
        """The result without pydbi."""
        import ctypes

        function = getattr(self.library, name)
        function.restype = ctypes.c_long
        return int(function(*arguments))

    def translated(self, name: str, *arguments: int) -> int:
        """The result under pydbi, signed."""
        import ctypes

        rsp = self.vm.getGPRState().rsp
        done, result = self.vm.call(self.address(name), list(arguments))
        assert done
        assert self.vm.getGPRState().rsp == rsp
        return ctypes.c_long(result).value


@pytest.mark.parametrize("instrumented", [False, True])
def test_heap(run_in_child: Child, library: str, instrumented: bool) -> None:
    """malloc, calloc, realloc, free and posix_memalign work, thousands of times."""

    def child() -> None:
        machine = Machine(library, instrumented)
        rounds = 1000 if instrumented else 20_000
        assert machine.translated("heap", rounds) == machine.native("heap", rounds) > 0
        stats = machine.vm.stats
        assert stats.native_calls > rounds
        assert not instrumented or machine.seen > 20 * rounds

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_python_callbacks_of_the_guest(
    run_in_child: Child, library: str, instrumented: bool
) -> None:
    """The guest may call functions that ctypes made of Python's, thousands of times."""

    def child() -> None:
        import ctypes

        machine = Machine(library, instrumented)
        calls = []

        @ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)
        def function(value: int) -> int:
            calls.append(value)
            return value * 7 + len(str(value))

        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address
        expected = machine.native("call_back", function, 30)
        calls.clear()
        assert machine.translated("call_back", address, 30) == expected
        assert calls == list(range(30))
        assert machine.translated("call_back", address, 3000)
        assert len(calls) == 3030

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_python_callback_runs_another_vm(
    run_in_child: Child, library: str, instrumented: bool
) -> None:
    """A function of Python's that the guest calls may run another VM on the same code."""

    def child() -> None:
        import ctypes

        machine, other = Machine(library, instrumented), Machine(library, instrumented)

        @ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)
        def function(value: int) -> int:
            return other.translated("heap", 10 + value % 5)

        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address
        expected = machine.native("call_back", function, 20)
        assert machine.translated("call_back", address, 20) == expected

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_longjmp(run_in_child: Child, library: str, instrumented: bool) -> None:
    """longjmp over the guest's own frames goes back to setjmp, again and again."""

    def child() -> None:
        machine = Machine(library, instrumented)
        for value in range(1, 300):
            assert (
                machine.translated("jump_over", machine.address("jump_back"), value) == 10 * value
            )

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_longjmp_out_of_native_calls(run_in_child: Child, library: str, instrumented: bool) -> None:
    """Excursions that are left for good are forgotten: ten thousand of them are no problem."""

    def child() -> None:
        import ctypes

        from pydbi.jit.context import NATIVE_STACK_ENTRIES, NATIVE_STACK_OFFSET, SLOT

        machine = Machine(library, instrumented)
        words = machine.vm._engine.guest.words
        depth = SLOT["NATIVE_DEPTH"] >> 3
        for number in range(3):
            machine.translated("heap", 20)
            assert words[depth] == 0
            # as a longjmp out of many excursions leaves it: entries below the stack pointer
            base = machine.vm._engine.guest.address + NATIVE_STACK_OFFSET
            rsp = machine.vm.getGPRState().rsp
            for entry in range(NATIVE_STACK_ENTRIES):
                ctypes.c_uint64.from_address(base + 16 * entry).value = 0xDEAD
                ctypes.c_uint64.from_address(base + 16 * entry + 8).value = rsp - 0x8000 - entry
            words[depth] = NATIVE_STACK_ENTRIES
            expected = machine.native("heap", 30 + number)
            assert machine.translated("heap", 30 + number) == expected

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_fork(run_in_child: Child, library: str, instrumented: bool) -> None:
    """fork called by the guest: the child goes on in translated code, and so does the parent."""

    def child() -> None:
        machine = Machine(library, instrumented)
        for status in (0, 7, 200):
            assert machine.translated("fork_and_wait", status) == status

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_threads(run_in_child: Child, library: str, instrumented: bool) -> None:
    """Threads that the guest starts run, and their results are the native ones."""

    def child() -> None:
        machine = Machine(library, instrumented)
        expected = machine.native("threads", 8)
        for _ in range(5):
            assert machine.translated("threads", 8) == expected

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_system(run_in_child: Child, library: str, instrumented: bool) -> None:
    """system() called by the guest runs a shell."""

    def child() -> None:
        import ctypes

        machine = Machine(library, instrumented)
        for command, status in ((b"exit 3", 3), (b"true", 0), (b"test 1 = 2", 1)):
            text = ctypes.create_string_buffer(command)
            assert machine.translated("run_shell", ctypes.addressof(text)) == status

    run_in_child(child)


def test_exception_in_a_python_callback_of_the_guest(run_in_child: Child, library: str) -> None:
    """An exception in a ctypes function is printed, as ctypes does natively; the guest goes on."""

    def child() -> None:
        import ctypes

        machine = Machine(library, False)

        @ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)
        def function(value: int) -> int:
            raise LookupError("from the callback")

        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address
        machine.translated("call_back", address, 3)  # ctypes leaves the result undefined

    assert "LookupError: from the callback" in run_in_child(child)
