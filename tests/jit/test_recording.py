"""Memory accesses recorded by machine code: exact, and unnoticed by the guest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import capstone
import pytest

from pydbi.jit.context import SHADOW_OFFSET, SHADOW_PAIRS
from pydbi.jit.recording import emit_after, emit_before, plan_recording
from pydbi.jit.records import Plain
from pydbi.x86.instruction import Instruction, decode
from tests.exec import campaign
from tests.exec.batch import FAMILIES
from tests.exec.native_runner import vector_level
from tests.x86.memory_forms import evex_forms, instructions, legacy_forms, vex_forms


@pytest.mark.parametrize("family", FAMILIES)
def test_recording_is_unnoticed_and_true(family: str) -> None:
    """Registers, flags and memory are the CPU's, and the records say what memory says."""
    if family == "avx512" and vector_level() < 2:
        pytest.skip("this CPU has no AVX-512")
    campaign.check(family, modes=("recorded",), cases=campaign.CASES // 2)


class _Draft:
    """What the emitting functions need of a draft."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.base = 0x1000
        self.cache = SimpleNamespace(loads={})
        self.resting: list[tuple[int, int, int, int]] = []

    def rests(self, *what: int) -> None:
        self.resting.append(what)  # type: ignore[arg-type]


# ModRM, SIB and displacement: [rbx], [rip + ...], [rsp + 8], [rax + rcx*8 + ...], an address.
_OPERANDS = ("03", "0511223300", "442408", "84c811223300", "042511223300")


def _variants(instruction: Instruction) -> Iterator[bytes]:
    """The instruction with other operands, and through FS and GS and with 32-bit addresses."""
    code = instruction.code
    head, tail = code[: instruction.modrm_offset], code[instruction.modrm_offset + 1 :]
    for operand in _OPERANDS:
        bytes_ = bytearray.fromhex(operand)
        bytes_[0] |= code[instruction.modrm_offset] & 0x38
        for prefix in (b"", b"\x64", b"\x65", b"\x67"):
            yield prefix + head + bytes_ + tail


def test_all_that_can_be_emitted_is_code_with_its_places_filled() -> None:
    """For every form: Capstone reads it, and it stores to the instruction's own words."""
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    first_slot, count = 100, 0
    for forms in (legacy_forms(), vex_forms(), evex_forms(mask=1)):
        for number, instruction in enumerate(instructions(forms)):
            if number % 4:
                continue
            for code in _variants(instruction):
                if not isinstance(decode(code, 0), Instruction):
                    continue
                plan = plan_recording(code, 0x12345678, first_slot, True, True)
                draft = _Draft()
                emit_before(draft, plan)  # type: ignore[arg-type]
                emit_after(draft, plan)  # type: ignore[arg-type]
                _check_code(disassembler, draft, first_slot, plan.end_slot)
                assert bool(plan.records) == bool(draft.out)
                count += 1
    assert count > 10000


def _check_code(disassembler: capstone.Cs, draft: _Draft, first_slot: int, end_slot: int) -> None:
    low, high = (SHADOW_OFFSET + 16 * slot for slot in (first_slot, end_slot))
    size = 0
    for _, length, mnemonic, operands in disassembler.disasm_lite(bytes(draft.out), 0):
        size += length
        if "gs:[0x" in operands:
            place = int(operands.split("gs:[")[1].split("]")[0], 16)
            assert low <= place < high or place < 0x400, (mnemonic, operands)
    assert size == len(draft.out), draft.out.hex()
    assert all(first <= last <= size for first, last, _, _ in draft.resting)


def test_no_block_can_run_out_of_words() -> None:
    """The instruction that needs most, 256 times."""
    plan = plan_recording(bytes.fromhex("c800001f"), 0, 0, True, True)  # enter 0, 31
    assert 256 * plan.end_slot <= SHADOW_PAIRS
    gather = plan_recording(bytes.fromhex("62f27d49900c8b"), 0, 0, True, True)
    assert 256 * gather.end_slot <= SHADOW_PAIRS


def test_values_may_be_left_out() -> None:
    """Then addresses are stored and nothing else, and no code is due behind the instruction."""
    code = bytes.fromhex("48014308")  # add [rbx + 8], rax
    plan = plan_recording(code, 0, 0, True, True, False)
    draft = _Draft()
    emit_before(draft, plan)  # type: ignore[arg-type]
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    texts = [f"{m} {o}" for _, _, m, o in disassembler.disasm_lite(bytes(draft.out), 0)]
    assert not [text for text in texts if text.startswith("mov") and "[rbx" in text]
    assert not plan.again
    assert [record.flags for record in plan.records if isinstance(record, Plain)] == [4, 4]


_FAULTING = """
mov rax, [rbx + rcx*2]
mov rbx, [rbx]
mov rbp, rbx; mov eax, [rbp + 8]
add [rbx], rax
push [rbx]
pop [rbx]
lock bts [rbx], rdx
xlatb
mov rsi, rbx; movsb
mov rdi, rbx; rep stosd
call [rbx]
jmp [rbx]
mov rax, fs:[rbx]
cmpxchg16b [rbx]
movups xmm0, [rbx]
vpgatherdd xmm0, [rbx + xmm1], xmm2
vmaskmovps xmm0, xmm2, [rbx]
mov rsp, [rbx]; pop rax
mov rsp, rbx; ret
mov rsp, rbx; push rax
mov rsp, rbx; push [rsi]
mov rbp, rbx; leave
mov rsp, rbx; enter 16, 3
mov al, [0x5000]
mov eax, [ebx]
"""


def _compare_faults(rows: list[str]) -> None:
    import ctypes

    import pydbi
    from tests.exec.gnu_as import PREAMBLE, assemble

    code = pydbi.host.memory.map_memory(4096, 7)
    data = ctypes.create_string_buffer(bytes(range(256)) * 16)
    known = ctypes.addressof(data)
    for row in rows:
        bytes_ = assemble(PREAMBLE + row.replace("; ", "\n") + "\n")
        ctypes.memmove(code, bytes_ + b"\x90" * 16, len(bytes_) + 16)
        for bad in (0x10, 0x12345678, 1 << 63):
            outcomes = []
            for kind in (0, 1, 2, 3):
                vm = pydbi.VM()
                vm.addInstrumentedRange(code, code + 4096)
                if kind:
                    vm.recordMemoryAccess(pydbi.MemoryAccessType(kind))
                gpr = vm.getGPRState()
                for number in range(16):
                    gpr[number] = known + 64 * number
                gpr.rbx = bad
                gpr.eflags = 0x202 | 0x8D5
                vm.getFPRState().xmm2 = b"\xff" * 16
                try:
                    vm.run(code, code + len(bytes_))
                    outcome: object = "ran"
                except pydbi.GuestFault as fault:
                    outcome = (fault.signal, fault.fault_address, fault.app_address)
                outcomes.append((outcome, [gpr[number] for number in range(18)]))
            assert outcomes[0][0] != "ran" or "fs:" in row, row
            for outcome in outcomes[1:]:
                assert outcome == outcomes[0], (row, hex(bad))


def test_a_fault_is_the_instructions_own(run_in_child: Callable[..., str]) -> None:
    """Signal, addresses and all registers are those without recording."""
    rows = [row for row in _FAULTING.strip().split("\n") if vector_level() or row[0] != "v"]
    run_in_child(_compare_faults, rows)


def _record_through_fs(has_fsgsbase: bool) -> None:
    import ctypes

    import pydbi
    from pydbi.host import cpu

    if not has_fsgsbase:
        cpu.has_fsgsbase = lambda: False  # type: ignore[assignment]
    found = []

    def note(vm: pydbi.VM, gpr: object, fpr: object, data: object) -> pydbi.VMAction:
        found.extend(vm.getInstMemoryAccess())
        return pydbi.VMAction.CONTINUE

    # mov rax, fs:[0]; mov rax, fs:[rax + rcx]; rep movsb [rdi], fs:[rsi]
    code = pydbi.host.memory.map_memory(4096, 7)
    bytes_ = bytes.fromhex("6448 8b0425 00000000 6448 8b0408 64f3a4 90".replace(" ", ""))
    ctypes.memmove(code, bytes_, len(bytes_))
    vm = pydbi.VM()
    vm.addInstrumentedRange(code, code + 4096)
    vm.recordMemoryAccess(pydbi.MemoryAccessType.MEMORY_READ_WRITE)
    vm.addCodeCB(pydbi.InstPosition.POSTINST, note, None)
    buffer = ctypes.create_string_buffer(64)
    gpr = vm.getGPRState()
    gpr.rsi, gpr.rdi, gpr.rcx = 8, ctypes.addressof(buffer), 4
    vm.run(code, code + 9)
    base = gpr.rax
    gpr.rax = 0x10
    gpr.rcx = 0
    vm.run(code + 9, code + 14)
    gpr.rcx = 4
    vm.run(code + 14, code + 17)
    places = [(a.accessAddress - base, a.size) for a in found]
    assert places[:3] == [(0, 8), (0x10, 8), (8, 4)], places
    assert [a.value for a in found[:2]] == [base, pydbi.readRword(base + 0x10)]
    assert found[3].accessAddress == ctypes.addressof(buffer)


@pytest.mark.parametrize("has_fsgsbase", [True, False])
def test_fs_base_is_added(has_fsgsbase: bool, run_in_child: Callable[..., str]) -> None:
    """Addresses through FS are the real ones, also where rdfsbase is not permitted."""
    run_in_child(_record_through_fs, has_fsgsbase)


def _gather() -> None:
    import ctypes
    import struct

    import pydbi
    from tests.exec.gnu_as import PREAMBLE, assemble

    data = ctypes.create_string_buffer(struct.pack("<16I", *range(100, 116)))
    base = ctypes.addressof(data)
    bytes_ = assemble(PREAMBLE + "vpgatherdd xmm0, [rbx + xmm1*4 + 4], xmm2\n")
    code = pydbi.host.memory.map_memory(4096, 7)
    ctypes.memmove(code, bytes_ + b"\x90", len(bytes_) + 1)
    seen: dict[str, list[tuple[int, int, int]]] = {}

    def note(vm: pydbi.VM, gpr: object, fpr: object, when: str) -> pydbi.VMAction:
        found = vm.getInstMemoryAccess()
        if found:  # not at the address where the run stops
            seen[when] = [((a.accessAddress - base) // 4, a.value, int(a.flags)) for a in found]
        return pydbi.VMAction.CONTINUE

    vm = pydbi.VM()
    vm.addInstrumentedRange(code, code + 4096)
    vm.recordMemoryAccess(pydbi.MemoryAccessType.MEMORY_READ_WRITE)
    vm.addCodeCB(pydbi.InstPosition.PREINST, note, "before")
    vm.addCodeCB(pydbi.InstPosition.POSTINST, note, "after")
    vm.getGPRState().rbx = base
    fpr = vm.getFPRState()
    fpr.xmm1 = struct.pack("<4i", 5, 1 << 30, -1, 9)
    fpr.xmm2 = struct.pack("<4i", -1, 0, -1, -5)
    vm.run(code, code + len(bytes_))
    expected = [(6, 106, 0), (0, 100, 0), (10, 110, 0)]
    assert seen["before"] == expected, seen
    assert seen["after"] == expected, seen


@pytest.mark.skipif(vector_level() < 1, reason="this CPU has no gathers")
def test_a_gather_before_it_is_executed(run_in_child: Callable[..., str]) -> None:
    """The selected elements are looked up in memory; those left out may be anywhere."""
    run_in_child(_gather)


def _sequences() -> None:
    import ctypes

    import pydbi
    from tests.exec.gnu_as import PREAMBLE, assemble

    text = """
    push rax
    add [rbx], rax
    rep stosb
    movups xmm0, [rbx]
    pop rdx
    enter 16, 2
    leave
    movsq
    jmp end
    end: nop
    """
    bytes_ = assemble(PREAMBLE + text)
    code = pydbi.host.memory.map_memory(4096, 7)
    ctypes.memmove(code, bytes_, len(bytes_))
    data = ctypes.create_string_buffer(4096)
    single: list[str] = []
    sequence: list[str] = []
    parts: list[tuple[list[str], list[str]]] = []

    def on_after(vm: pydbi.VM, gpr: object, fpr: object, _: object) -> pydbi.VMAction:
        single.extend(map(repr, vm.getInstMemoryAccess()))
        parts.append((list(single), list(map(repr, vm.getBBMemoryAccess()))))
        return pydbi.VMAction.CONTINUE

    def on_exit(vm: pydbi.VM, *_: object) -> pydbi.VMAction:
        sequence.extend(map(repr, vm.getBBMemoryAccess()))
        return pydbi.VMAction.CONTINUE

    vm = pydbi.VM()
    vm.addInstrumentedRange(code, code + 4096)
    vm.recordMemoryAccess(pydbi.MemoryAccessType.MEMORY_READ_WRITE)
    vm.addCodeCB(pydbi.InstPosition.POSTINST, on_after, None)
    vm.addVMEventCB(pydbi.VMEvent.SEQUENCE_EXIT, on_exit, None)
    gpr = vm.getGPRState()
    pydbi.allocateVirtualStack(gpr, 4096)
    base = ctypes.addressof(data)
    gpr.rsp -= 512
    gpr.rbx, gpr.rsi, gpr.rdi, gpr.rbp, gpr.rcx = base, base + 64, base + 128, base + 512, 5
    vm.run(code, code + len(bytes_) - 1)
    assert len(single) == 13, single
    assert sequence == single
    assert all(expected == found for expected, found in parts)


def test_the_accesses_of_a_sequence_are_those_of_its_instructions(
    run_in_child: Callable[..., str],
) -> None:
    """getBBMemoryAccess gives, at any point, what getInstMemoryAccess gave so far."""
    run_in_child(_sequences)
