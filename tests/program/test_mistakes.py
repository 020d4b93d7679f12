"""What is done wrong with a program is told, and harms nobody."""

from __future__ import annotations

import pytest

from tests.child import run_in_child

MISTAKES = {
    "Program(5)": (TypeError, "not 5"),
    "Program(['true'], stdin=subprocess.PIPE).run()": (ValueError, "PIPE is not possible"),
    "Program(['true'], stderr=subprocess.STDOUT).run()": (ValueError, "STDOUT is not possible"),
    "Program(['true'], stdin=io.BytesIO()).run()": (TypeError, "a file with a descriptor"),
    "Program(['true'], stdin=999).run()": (ValueError, "descriptor 999 is not open"),
    "Program(['true'], options='x')": (TypeError, "x"),
    "Program(['true'], cwd='/bin/true')": (NotADirectoryError, "'/bin/true'"),
    "Program(['true']).addSyscallCB(1.5, before=print)": (TypeError, "number"),
    "Program(['true']).addSyscallCB(-1, before=print)": (ValueError, "-1"),
    "Program(['true']).addSyscallCB(1 << 16, before=print)": (ValueError, "65536"),
    "Program(['true']).addSyscallCB('nothing', before=print)": (ValueError, "nothing"),
    "Program(['true']).on_tick(5)": (TypeError, "not 5"),
    "Program(['true']).on_load(5)": (TypeError, "not 5"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text: str) -> None:
    """They are told where they are made, nothing is said beside, and the next program runs."""

    def child(text: str, error: str, words: str) -> None:
        import builtins
        import io
        import subprocess

        import pytest

        import pydbi

        names = {"Program": pydbi.Program, "subprocess": subprocess, "io": io}
        with pytest.raises(getattr(builtins, error), match=words):
            eval(text, names)
        assert pydbi.Program(["true"]).run() == 0

    error, words = MISTAKES[text]
    assert run_in_child(child, text, error.__name__, words) == ""


def test_what_a_program_looks_like() -> None:
    """Where it is, and how it has ended."""

    def child() -> None:
        import pydbi

        program = pydbi.Program(["sh", "-c", "exit 3"])
        assert repr(program).startswith(f"<program {program.path}: at 0x")
        seen = []
        program.addSyscallCB(before=lambda vm, call: seen.append(repr(program)))
        assert program.run() == 3
        assert set(seen) == {f"<program {program.path}: running>"}
        assert repr(program) == f"<program {program.path}: ended with status 3>"

    run_in_child(child)


def test_programs_that_are_there_at_the_end() -> None:
    """Programs that are in reference cycles when Python ends do it no harm."""

    def child() -> None:
        import pydbi

        for turn in range(3):
            program = pydbi.Program(["true"])

            def fail(vm: pydbi.VM, call: object, turn: int = turn) -> None:
                globals()[f"kept{turn}"] = vm, call, fail
                raise KeyError(turn)

            program.addSyscallCB(before=fail)
            try:
                program.run()
            except KeyError as error:
                globals()[f"error{turn}"] = error, program

    run_in_child(child)
