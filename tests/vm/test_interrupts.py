"""Exceptions that Python raises on its own account while a guest is being translated or run."""

from __future__ import annotations

from collections.abc import Callable

Child = Callable[..., str]


def test_interrupted_and_resumed(run_in_child: Child) -> None:
    """A signal handler's exception leaves the guest exact: going on from rip gives the result."""

    def child(callbacks: bool) -> None:
        import ctypes
        import random
        import signal
        import zlib

        import pydbi

        class TimerError(Exception):
            """Raised by the signal handler."""

        def on_timer(number: int, frame: object) -> None:
            raise TimerError

        library = ctypes.CDLL("libz.so.1")
        function = ctypes.cast(library.compress, ctypes.c_void_p).value
        assert function is not None
        vm = pydbi.VM()
        vm.addInstrumentedModuleFromAddr(function)
        gpr = vm.getGPRState()
        pydbi.allocateVirtualStack(gpr, 1 << 20)
        top = gpr.rsp
        if callbacks:
            vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, None)
        source = bytes(random.Random(7).choices(b"abcdefgh", k=3000))
        expected = zlib.compress(source)
        target = ctypes.create_string_buffer(6000)
        size = ctypes.c_ulong()
        stop = 0x1234
        arguments = [ctypes.addressof(target), ctypes.addressof(size), source, len(source)]
        keep = ctypes.create_string_buffer(source)
        arguments[2] = ctypes.addressof(keep)
        interruptions = 0
        signal.signal(signal.SIGALRM, on_timer)
        for delay in [0.0001 + n * 0.00037 for n in range(60)]:
            size.value = 6000
            gpr.rsp = top
            pydbi.simulateCall(gpr, stop, arguments)
            vm.clearAllCache()
            gpr.rip = at = function  # in case that it comes before the run begins
            for _ in range(200):
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    try:
                        assert vm.run(at, stop)
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    break
                except TimerError:
                    interruptions += 1
                    delay *= 1.3
                    at = gpr.rip
                    if at == stop:  # it came when all was done
                        break
            assert gpr.rip == stop
            assert target.raw[: size.value] == expected
        assert interruptions > 30, interruptions

    run_in_child(child, False)
    run_in_child(child, True)
