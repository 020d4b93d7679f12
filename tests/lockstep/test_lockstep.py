"""The lockstep validator: right code goes alike, and the first wrong instruction is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from pydbi.host.libc import PROT_EXEC, PROT_READ
from pydbi.host.memory import protect_memory
from tests.exec.gnu_as import PREAMBLE, assemble
from tests.lockstep import __main__ as lockstep
from tests.lockstep.compare import NAMES, RIP, Step, first_parting
from tests.lockstep.function import Call, address_of, module_ranges, place

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
_FLAWED = "tests.fuzz.flawed_engine"


def _call(library: str, function: str, *arguments: int, vectors: bool = True) -> Call:
    address = address_of(library, function)
    return Call(address, arguments, module_ranges(address), vectors)


@pytest.fixture
def code() -> Call:
    """Machine code with system calls, PUSHF, REP and the instruction that the flaw is about."""
    text = """
    pushfq; pop rax; mov ecx, 5; lea rdi, [rsp - 64]; rep stosb
    mov eax, 110; syscall; xor eax, eax; mov rcx, rax
    inc rbx; rdtsc; xor eax, eax; xor edx, edx; inc rbx; ret"""
    base = place(assemble(PREAMBLE + text))
    protect_memory(base, 4096, PROT_READ | PROT_EXEC)
    return Call(base, (), [(base, base + 4096)])


@pytest.mark.parametrize(
    ("library", "function", "arguments"),
    [
        ("libc.so.6", "strtol", (b"  -1234567x\0", 0, 10)),
        ("libc.so.6", "strcspn", (b"some text; and more\0", b";,\0")),
        ("libc.so.6", "wcslen", (b"a\0\0\0b\0\0\0\0\0\0\0",)),
        ("libm.so.6", "log2", ()),
    ],
)
def test_functions_go_alike(library: str, function: str, arguments: Sequence[int | bytes]) -> None:
    """Library functions find the same registers before every instruction."""
    values = [a if isinstance(a, int) else place(a) for a in arguments]
    count, parting = lockstep.check(_call(library, function, *values))
    assert parting is None, lockstep.describe(parting)
    assert count >= 5


def test_a_fault_ends_both(code: Call) -> None:
    """A signal that both sides get is no difference."""
    call = _call("libc.so.6", "strtol", 16, 0, 10)
    count, parting = lockstep.check(call)
    assert parting is None
    assert count >= 1


def test_the_first_wrong_instruction_is_named(code: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine with a mistake parts at the instruction with the mistake."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", "callback")
    _count, parting = lockstep.check(code, _FLAWED)
    assert parting is not None
    assert parting.expected is not None
    assert parting.found is not None
    assert parting.found.values[RIP] == parting.expected.values[RIP] + 1
    text = lockstep.describe(parting)
    assert "rip: expected" in text
    assert "inc rbx" in text


def test_the_flawed_code_goes_alike_without_a_flaw(
    code: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stepping changes by itself - TF, REP, time - is not taken for a difference."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", "")
    count, parting = lockstep.check(code, _FLAWED)
    if parting is not None:  # time is no mistake
        assert parting.code[:2] == b"\x0f\x31", lockstep.describe(parting)
    assert count >= 6


class _Listed:
    """A side that is a list of steps."""

    def __init__(self, end: str, *places: int, **changed: int) -> None:
        self.end = end
        self._steps = [
            Step(tuple({**dict.fromkeys(NAMES, 0), **changed, "rip": at}[name] for name in NAMES))
            for at in places
        ]

    def steps(self) -> Iterator[Step]:
        """See `compare.Side`."""
        return iter(self._steps)

    def read(self, address: int, size: int) -> bytes:
        """All memory holds the address 30, in each byte's own way."""
        return (30).to_bytes(8, "little").ljust(size, b"\0")[:size]


def test_ends_are_compared() -> None:
    """Sides that end at different places, or differently, part there."""
    right = _Listed("return", 10, 11, 12)
    assert first_parting(right, _Listed("return", 10, 11, 11, 12)) == (3, None)
    for other in (_Listed("return", 10, 11), _Listed("SIGSEGV at 0xc", 10, 11, 12)):
        _count, parting = first_parting(right, other)
        assert parting is not None
        assert "end: expected" in parting.differences[0]


def test_a_register_is_named() -> None:
    """What differs is named with both values, and the instruction is the one before."""
    _count, parting = first_parting(_Listed("", 10, 11), _Listed("", 10, 11, rbx=5))
    assert parting is not None
    assert parting.differences == ["rbx: expected 0x0, got 0x5"]
