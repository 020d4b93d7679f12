"""The fuzzer: the engine passes a short run, and mistakes on purpose are found and reported."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.child import child_environment
from tests.exec.gnu_as import PREAMBLE, assemble
from tests.exec.native_runner import vector_level
from tests.fuzz import campaign
from tests.fuzz.campaign import Campaign, Finding, describe
from tests.fuzz.cases import Case, corpus, make_case, make_start
from tests.fuzz.explained import CUT, cut_reason
from tests.fuzz.layout import CODE_SIZE, DATA, PAGE, SLOT_COUNT
from tests.fuzz.native import NOWHERE, NativeProcess, Outcome
from tests.lockstep.tracer import instruction_bytes

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
_FLAWED = "tests.fuzz.flawed_engine"
_READS_NOWHERE = "nop; inc eax; xor ecx, ecx; mov rdx, [rcx + 64]"
_SIGILL, _SIGTRAP, _SIGFPE, _SIGSEGV = 4, 5, 8, 11


def test_a_short_run_finds_nothing() -> None:
    """Cases in all modes end as on the processor."""
    run = Campaign(8)
    found = list(run.run(0, 5 * SLOT_COUNT))
    assert not found, "\n\n".join(describe(run.reduce(finding)) for finding in found[:3])
    assert run.done == 5 * SLOT_COUNT


def test_a_short_run_out_of_reach_finds_nothing() -> None:
    """Nor where translations lie too far from the code for displacements."""
    run = Campaign(8, mode="far")
    found = list(run.run(0, 2 * SLOT_COUNT))
    assert not found, "\n\n".join(describe(run.reduce(finding)) for finding in found[:3])


_FOUND_ONCE = {
    "a fault in a string instruction through GS": ("65a5", 2166, "plain"),
    "it runs over the end of the page": ("e2", PAGE - 1, "plain"),
    "a bit offset is added before an address is cut to 32 bits": (
        "674c0fa325224d3e00", 1569, "plain",
    ),
    "a privileged instruction with a bad operand": ("6e", 0x200, "recorded"),
    "both operands are bad": ("4831f64831ffa6", 0x200, "recorded"),
    "what enter has pushed when it faults": ("bd40000000c8100003", 0x200, "recorded"),
    "a jump to an address that is not canonical": (
        "48b80000000000800000ffe0", 0x200, "plain",
    ),
    "a return to an address that is not canonical": (
        "48b8000000000080000050c3", 0x200, "callbacks",
    ),
    "wrgsbase of an address that is not canonical": (
        "48b80000000000800000f3480faed8", 0x200, "plain",
    ),
    "wrgsbase of one from its other end": (
        "48b8ffffffffff7fffff4889c1f3480faed9", 0x200, "callbacks",
    ),
    "wrfsbase of an address that is not canonical": (
        "48b80000000000800000f3480faed0", 0x200, "callbacks",
    ),
    "the last canonical addresses": (
        "48b8ffffffffff7f0000f3480faed848f7d0f3480faed8f3480faec10f0b", 0x200, "plain",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _FOUND_ONCE)
def test_what_was_wrong_once(name: str) -> None:
    """Findings of earlier runs, and what lies near them."""
    code, offset, mode = _FOUND_ONCE[name]
    case = Case(1000, 2, bytes.fromhex(code), offset)
    assert not Campaign(1000).check(case, mode)


def _case(text: str) -> Case:
    return Case(1, 3, assemble(PREAMBLE + text), 0x100)


@pytest.mark.parametrize(
    ("flaw", "difference"),
    [
        ("register", "r9: expected"),
        ("flag", "eflags (AF): expected"),
        ("vector", "mm7: expected"),
        ("memory", "data+0x120: expected"),
        ("address", "end: expected SignalInfo"),
        ("decoder", "end: expected SignalInfo"),
        ("exception", "RuntimeError: a mistake on purpose"),
        ("crash", "the child died: SIGSEGV"),
    ],
)
def test_a_mistake_is_found(flaw: str, difference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs is said."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", flaw)
    found = Campaign(1, _FLAWED).check(_case(_READS_NOWHERE), "plain")
    assert any(difference in line for line in found), found


def test_a_finding_is_made_short_and_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has no more code than is needed, and the command that repeats the case."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", "register")
    run = Campaign(1, _FLAWED)
    case = _case(_READS_NOWHERE)
    reduced = run.reduce(Finding(case, "plain", run.check(case, "plain")))
    assert len(reduced.case.code) < len(case.code)
    assert reduced.case.code.startswith(b"\x90")
    text = describe(reduced, _FLAWED)
    command = re.search(r"repeat: python (.*)", text)
    assert command is not None
    again = subprocess.run(
        [sys.executable, *command[1].split()],
        capture_output=True,
        text=True,
        env=child_environment(),
        timeout=60,
    )
    assert again.returncode == 1
    assert "r9: expected" in again.stdout


def test_a_hang_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that never ends is reported."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", "hang")
    monkeypatch.setattr(campaign, "SILENCE", 3.0)
    assert "hangs" in Campaign(1, _FLAWED).check(_case("nop; ud2"), "plain")[0]


def test_a_long_run_goes_on_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases behind one that ends the child run all the same."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", "crash")
    run = Campaign(7, _FLAWED, mode="plain")
    code = {n: make_case(7, n).code for n in range(2 * SLOT_COUNT)}
    begins_with_nop = {n for n in code if code[n].startswith(b"\x90")}
    found = {finding.case.index for finding in run.run(0, 2 * SLOT_COUNT)}
    assert found <= begins_with_nop
    assert run.done == 2 * SLOT_COUNT


def test_a_flawless_engine_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code differs nowhere without a mistake."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", "")
    run = Campaign(1, _FLAWED)
    for mode in ("plain", "callbacks", "recorded"):
        assert not run.check(_case(_READS_NOWHERE), mode)


def test_cases_follow_from_the_seed() -> None:
    """The same seed and number make the same case and state; others make others."""
    assert make_case(5, 77) == make_case(5, 77)
    assert make_start(make_case(5, 77), 1) == make_start(make_case(5, 77), 1)
    made = {make_case(seed, index).code for seed in (5, 6) for index in range(200)}
    assert len(made) > 390
    assert len(corpus()) > 2000


# The processor's side.


@pytest.fixture(scope="module")
def process() -> Iterator[NativeProcess]:
    """One process for all of these."""
    made = NativeProcess(vector_level())
    yield made
    made.close()


def _run(process: NativeProcess, text: str, stop: int = NOWHERE, **registers: int) -> Outcome:
    case = _case(text)
    pages = [b"\xcc" * PAGE] * SLOT_COUNT
    pages[case.slot] = case.page
    code = b"".join(pages)
    process.load(code[:CODE_SIZE], code[CODE_SIZE:])
    state, memory = make_start(case, vector_level())
    return process.run(case.slot, case.start, {**state, **registers}, memory, stop)


@pytest.mark.parametrize(
    ("text", "signal", "si_code"),
    [
        ("ud2", _SIGILL, 2),
        ("hlt", _SIGSEGV, 128),
        ("xor ecx, ecx; div ecx", _SIGFPE, 1),
        ("mov ecx, 64; mov eax, [rcx]", _SIGSEGV, 1),
        ("lea rcx, [rip]; mov [rcx], eax", _SIGSEGV, 2),
        ("mov eax, 64; jmp rax", _SIGSEGV, 1),
        ("int3", _SIGTRAP, 128),
        ("int1", _SIGTRAP, 1),
    ],
)
def test_signals(process: NativeProcess, text: str, signal: int, si_code: int) -> None:
    """The kernel's own words on how a case ends."""
    outcome = _run(process, text)
    assert outcome.signal is not None
    assert (outcome.signal.signal, outcome.signal.code) == (signal, si_code)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nop; syscall", "system call"),
        ("int 0x80", "system call"),
        ("nop; .byte 0x66, 0x4f, 0x0f, 0x05", "system call"),
        ("rdtsc", "time or chance"),
        ("rdrand eax", "time or chance"),
        ("cpuid", "processor state"),
        ("fnstenv [rsp]", "x87 pointers"),
        ("xsave [rsp]", "extended state"),
        ("mov ss, eax", "mov ss"),
        ("lret", "far"),
        ("push 0x100; popf", "popf"),
        ("again: inc eax; jmp again", "limit"),
    ],
)
def test_what_is_not_executed(process: NativeProcess, text: str, reason: str) -> None:
    """A case ends before what is not to be compared; that is in the table with its reason."""
    outcome = _run(process, text)
    assert outcome.signal is None
    assert outcome.reason == reason
    assert reason in CUT or reason == "limit"


def test_stepping_leaves_no_trace(process: NativeProcess) -> None:
    """TF does not show in PUSHF's image, and the ID flag of one case is gone in the next."""
    outcome = _run(process, "push 0x200202; popf; pushf; pop rax; ud2")
    assert outcome.state["rax"] == 0x200202
    outcome = _run(process, "pushf; pop rax; ud2", eflags=0x202)
    assert outcome.state["rax"] == 0x202


def test_the_whole_state_is_set_and_read(process: NativeProcess) -> None:
    """What the case does not change is as it was set."""
    state, memory = make_start(_case("ud2"), vector_level())
    outcome = _run(process, "ud2")
    for name, value in state.items():
        if name != "eflags":
            assert outcome.state[name] == value, name
    assert outcome.memory[:2] == memory


def test_a_case_stops_where_it_is_told(process: NativeProcess) -> None:
    """The state at an address on the way is that of a shorter case."""
    case = _case("nop; nop; ud2")
    outcome = _run(process, "nop; nop; ud2", stop=case.start + 1)
    assert (outcome.steps, outcome.state["rip"]) == (1, case.start + 1)


def test_the_process_is_alone(process: NativeProcess) -> None:
    """No address of a library, nor any descriptor, is in it."""
    pid = process.pid
    names = Path(f"/proc/{pid}/maps").read_text()
    assert ".so" not in names
    assert f"{DATA:x}-" in names
    assert not list(Path(f"/proc/{pid}/fd").iterdir())
    assert "Seccomp:\t1" in Path(f"/proc/{pid}/status").read_text()


def test_every_kind_of_cut_has_a_reason() -> None:
    """Opcodes of the table lead to kinds that say why."""
    for code in (
        "0f05",
        "480f01f9",
        "f30fc7f8",
        "0fae20",
        "d930",
        "ff18",
        "8ed0",
        "8ed8",
        "0fb21f",
    ):
        data = bytes.fromhex(code)
        assert cut_reason(data, instruction_bytes(data)) in CUT
    for code in ("90", "0f1f00", "d9c0", "ffd0", "8cd8", "0fae28", "0fc70f"):
        data = bytes.fromhex(code)
        assert not cut_reason(data, instruction_bytes(data))


def test_pages_hold_the_code_and_int3() -> None:
    """A case's page is int3 but for its code."""
    case = dataclasses.replace(make_case(1, 5), code=b"\x90" * 4, offset=PAGE - 4)
    assert case.page == b"\xcc" * (PAGE - 4) + b"\x90" * 4
