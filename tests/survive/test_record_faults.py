"""Instructions that fault while their accesses are recorded: as if they were not."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

import pydbi
from tests.compat.harness import Guest, at

_NOWHERE = 0x123000
_STACK = 0x200
FAULTS = {
    "a load": "mov rdx, [rbx]",
    "an update": "lock add [rbx + 8], rdx",
    "a privileged instruction": "outsb",
    "both operands": "cmpsb",
    "a push of what cannot be read": "push qword ptr [rbx]",
    "a call": "call qword ptr [rbx]",
    "a jump": "jmp qword ptr [rbx]",
    "a bit": "mov edx, 77; bts [rbx], rdx",
    "frame pointers": "mov rbp, rbx; enter 16, 3",
    "a vector": "movups xmm1, [rbx]",
    "an undefined opcode": ".byte 0x0f, 0xb9, 0x03",
    "through GS": "mov rdx, gs:[rbx]",
}


def _guest(text: str) -> Guest:
    g = Guest(pydbi, text, options=pydbi.OPT_ENABLE_FS_GS)
    _begin(g)
    return g


def _begin(g: Guest) -> None:
    """Give the guest bad pointers, and empty data and stack."""
    g.set(rbx=_NOWHERE, rsi=_NOWHERE + 0x1000, rdi=_NOWHERE, rcx=10, rdx=5, rax=0,
          rsp=g.stack_top, rbp=g.stack_top, eflags=0x202)  # fmt: skip
    ctypes.memset(g.data, 0, 0x1000)
    ctypes.memset(g.stack_top - _STACK, 0, _STACK)
    g.log.clear()


def _outcome(g: Guest) -> tuple[Any, ...]:
    with pytest.raises((pydbi.GuestFault, pydbi.DecodeError)) as caught:
        g.run()
    fault = caught.value
    reported = ()
    if isinstance(fault, pydbi.GuestFault):
        reported = (fault.signal, fault.si_code, fault.fault_address)
    state = bytes(g.vm.getGPRState())
    memory = g.read(0, 0x1000), ctypes.string_at(g.stack_top - _STACK, _STACK)
    return type(fault), fault.app_address, reported, state, memory, list(g.log)


@pytest.mark.parametrize("callbacks", [False, True])
@pytest.mark.parametrize("text", FAULTS.values(), ids=FAULTS)
def test_the_fault_is_the_instructions_own(text: str, callbacks: bool) -> None:
    """Fault, registers, stack and callbacks are those without recording."""
    g = _guest(text)
    if callbacks:
        g.on("PRE", "pre")
        g.on("POST", "post")
    expected = _outcome(g)
    g.vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE)
    _begin(g)
    assert _outcome(g) == expected


def test_what_cannot_be_read_is_unknown() -> None:
    """A callback before the instruction sees where it will read, and that the value is unknown."""
    g = _guest("a: add [rbx], rdx")
    g.vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE)
    seen = at(g, "a", lambda gpr, fpr: [
        (access.accessAddress, access.value, access.size, access.flags)
        for find in (g.vm.getInstMemoryAccess, g.vm.getBBMemoryAccess) for access in find()
    ])  # fmt: skip
    with pytest.raises(pydbi.GuestFault):
        g.run()
    assert seen == [[(_NOWHERE, 0, 8, pydbi.MEMORY_UNKNOWN_VALUE)] * 2]
    g.write(8, (7).to_bytes(8, "little"))
    g.set(rbx=g.data + 8)
    assert g.run()
    assert seen[1:] == [[(g.data + 8, 7, 8, pydbi.MEMORY_NO_FLAGS)] * 2]


def test_a_pointer_that_is_mended() -> None:
    """A callback before the instruction mends the pointer; what is recorded is what happens."""
    g = _guest("a: push qword ptr [rbx]; pop rdx")
    g.vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE)
    g.write(0x40, (77).to_bytes(8, "little"))

    def mend(gpr: Any, fpr: Any) -> None:
        gpr.rbx = g.data + 0x40

    at(g, "a", mend)
    seen = at(g, "a", lambda gpr, fpr: [
        (access.type, access.accessAddress, access.value) for access in g.vm.getInstMemoryAccess()
    ], "POST")  # fmt: skip
    assert g.run()
    assert g.get("rdx") == 77
    assert seen == [[(pydbi.MEMORY_READ, g.data + 0x40, 77),
                     (pydbi.MEMORY_WRITE, g.stack_top - 8, 77)]]  # fmt: skip


def test_a_watch_sees_the_access_that_faults() -> None:
    """A watch of what is about to be read is called before the fault."""
    g = Guest(pydbi, "mov rdx, [rbx + 8]")
    calls = []

    def watch(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        calls.append([access.accessAddress for access in vm.getInstMemoryAccess()])
        return pydbi.CONTINUE

    g.vm.addMemAddrCB(_NOWHERE + 8, pydbi.MEMORY_READ, watch, None)
    g.set(rbx=_NOWHERE)
    with pytest.raises(pydbi.GuestFault) as caught:
        g.run()
    assert caught.value.fault_address == _NOWHERE + 8
    assert calls == [[_NOWHERE + 8]]
