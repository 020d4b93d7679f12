"""Options, errno, log priorities, and what a VM is made from."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, either, wrong

Make = Callable[..., Guest]

_OPTIONS = """
    OPT_DISABLE_FPR OPT_DISABLE_OPTIONAL_FPR OPT_DISABLE_MEMORYACCESS_VALUE
    OPT_DISABLE_ERRNO_BACKUP OPT_ATT_SYNTAX OPT_ENABLE_FS_GS"""
OPTIONS = _OPTIONS.split()


def test_default_options(qbdi: Any) -> None:
    """A VM has no options unless they are given."""
    assert qbdi.VM().options == qbdi.NO_OPT
    assert type(qbdi.VM().options) is qbdi.Options


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_constructor(qbdi: Any, name: str) -> None:
    """The options given are those the VM has."""
    option = getattr(qbdi, name)
    assert qbdi.VM(options=option).options == option
    assert qbdi.VM("", [], option).options == option


@pytest.mark.parametrize("name", OPTIONS)
def test_options_can_be_changed(qbdi: Any, name: str) -> None:
    """The attribute options can be set, to combinations too."""
    vm = qbdi.VM()
    option = getattr(qbdi, name)
    vm.options = option
    assert vm.options == option
    vm.options = option | qbdi.OPT_DISABLE_FPR
    assert vm.options == option | qbdi.OPT_DISABLE_FPR
    assert type(vm.options) is qbdi.Options


@pytest.mark.parametrize("value", [3, 0, "x", None])
def test_what_are_no_options(qbdi: Any, value: object) -> None:
    """Options are of their own type, also not integers; else TypeError."""
    vm = qbdi.VM()
    with pytest.raises(TypeError):
        vm.options = value
    with pytest.raises(TypeError):
        qbdi.VM(options=value)
    with pytest.raises(TypeError):
        vm.options = qbdi.STOP
    assert vm.options == qbdi.NO_OPT


def test_changed_options_keep_callbacks_and_ranges(guest: Make) -> None:
    """Changing the options keeps what is instrumented, and with what."""
    g = guest("inc rax")
    g.on("PRE", "x")
    assert g.run()
    g.vm.options = g.qbdi.OPT_DISABLE_FPR
    assert g.run()
    assert g.log == [("x", "start"), ("x", "start")]


def test_changed_options_keep_registers(guest: Make) -> None:
    """Changing the options leaves the guest's state alone."""
    g = guest("inc rax")
    g.set(rax=5)
    g.vm.getFPRState().xmm3 = b"0123456789abcdef"
    g.vm.options = g.qbdi.OPT_ATT_SYNTAX
    assert g.get("rax") == 5
    assert g.vm.getFPRState().xmm3 == b"0123456789abcdef"


def test_changed_options_clear_the_cache(guest: Make) -> None:
    """After a change code is translated anew: patched code counts."""
    g = guest("mov eax, 1")
    assert g.run()
    g.qbdi.writeMemory(g.base + 1, b"\x02")
    g.vm.options = g.qbdi.OPT_ATT_SYNTAX
    assert g.run()
    assert g.get("rax") == 2


def test_disabled_floating_point_state(guest: Make, qbdi: Any) -> None:
    """With OPT_DISABLE_FPR the vector registers of the guest are not Python's to see."""
    g = guest("movups xmm1, [rip + data]", options=qbdi.OPT_DISABLE_FPR)
    g.write(0, b"0123456789abcdef")
    assert g.run()
    assert g.vm.getFPRState().xmm1 == bytes(16)


def test_optional_floating_point_state(guest: Make, qbdi: Any) -> None:
    """With OPT_DISABLE_OPTIONAL_FPR results are the same."""
    g = guest("movups xmm1, [rip + data]", options=qbdi.OPT_DISABLE_OPTIONAL_FPR)
    g.write(0, b"0123456789abcdef")
    assert g.run()
    assert g.vm.getFPRState().xmm1 == b"0123456789abcdef"


@pytest.mark.parametrize("register", ["fs", "gs"])
def test_segment_base_of_the_guest(guest: Make, qbdi: Any, register: str) -> None:
    """With OPT_ENABLE_FS_GS the segment bases are the guest's, and go in from the state."""
    g = guest(f"mov rbx, {register}:[8]", options=qbdi.OPT_ENABLE_FS_GS)
    g.write(8, b"8 bytes!")
    g.set(**{register: g.data})
    assert g.run()
    assert g.get("rbx").to_bytes(8, "little") == b"8 bytes!"
    assert g.get(register) == g.data


@pytest.mark.parametrize("register", ["fs", "gs"])
def test_guest_sets_a_segment_base(guest: Make, qbdi: Any, register: str) -> None:
    """With OPT_ENABLE_FS_GS what the guest sets is in the state afterwards."""
    g = guest(
        f"lea rax, [rip + data]; wr{register}base rax; mov rbx, {register}:[8]",
        options=qbdi.OPT_ENABLE_FS_GS,
    )
    g.write(8, b"8 bytes!")
    assert g.run()
    assert g.get("rbx").to_bytes(8, "little") == b"8 bytes!"
    assert g.get(register) == g.data


@pytest.mark.parametrize("register", ["fs", "gs"])
def test_guest_reads_a_segment_base(guest: Make, qbdi: Any, register: str) -> None:
    """With OPT_ENABLE_FS_GS rdfsbase and rdgsbase give the guest's base."""
    g = guest(f"rd{register}base rax", options=qbdi.OPT_ENABLE_FS_GS)
    g.set(**{register: g.data})
    assert g.run()
    if wrong(qbdi, "the instruction reads the host's"):
        assert g.get("rax") != g.data
    else:
        assert g.get("rax") == g.data


# errno.


@pytest.mark.parametrize("value", [0, 5, (1 << 31) - 1])
def test_errno_is_kept(qbdi: Any, value: int) -> None:
    """getErrno returns what setErrno set."""
    vm = qbdi.VM()
    assert vm.setErrno(value) is None
    assert vm.getErrno() == value
    vm.setErrno(errno=value)
    assert vm.getErrno() == value


@pytest.mark.parametrize("value", [-3, 1 << 32, 1.0, "x", None])
def test_what_is_no_errno(qbdi: Any, value: object) -> None:
    """An error number is unsigned and has 32 bits; else TypeError."""
    vm = qbdi.VM()
    vm.setErrno(5)
    with pytest.raises(TypeError):
        vm.setErrno(value)
    assert vm.getErrno() == 5


def test_errno_in_a_callback(guest: Make) -> None:
    """A callback sees the guest's error number, and may set it."""
    g = guest("nop")
    g.vm.setErrno(9)
    seen = []

    def callback(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        seen.append(vm.getErrno())
        vm.setErrno(33)
        return g.qbdi.CONTINUE

    g.vm.addCodeCB(g.qbdi.PREINST, callback, None)
    assert g.run()
    assert seen == [9]
    assert g.vm.getErrno() == 33


def test_errno_of_each_vm(qbdi: Any) -> None:
    """Two VMs have error numbers of their own."""
    first, second = qbdi.VM(), qbdi.VM()
    first.setErrno(1)
    second.setErrno(2)
    assert (first.getErrno(), second.getErrno()) == (1, 2)


# What a VM is made from.


@pytest.mark.parametrize(
    "arguments",
    [{}, {"cpu": ""}, {"cpu": "skylake"}, {"cpu": "x86-64"}, {"mattrs": ["avx2"]}, {"mattrs": ()}],
)
def test_vm_for_a_processor(qbdi: Any, arguments: Any) -> None:
    """A processor's name and attributes are accepted."""
    assert type(qbdi.VM(**arguments)) is qbdi.VM


@pytest.mark.parametrize("arguments", [{"cpu": 5}, {"mattrs": "avx2"}, {"mattrs": [5]}, {"foo": 1}])
def test_vm_of_something_else(qbdi: Any, arguments: Any) -> None:
    """A name is text, attributes are a sequence of texts; else TypeError."""
    with pytest.raises(TypeError):
        qbdi.VM(**arguments)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_vm_is_not_copied(qbdi: Any, how: Callable[[Any], Any]) -> None:
    """A VM can be neither copied nor pickled."""
    with pytest.raises(TypeError):
        how(qbdi.VM())


def test_vm_is_hashable(qbdi: Any) -> None:
    """A VM is equal to itself only, and can be a key."""
    first, second = qbdi.VM(), qbdi.VM()
    assert first == first
    assert first != second
    assert len({first, second}) == 2


# Logging.


@pytest.mark.parametrize("name", ["DEBUG", "INFO", "WARNING", "ERROR", "DISABLE"])
def test_log_priorities(qbdi: Any, name: str) -> None:
    """Each priority can be set, by name of the parameter too."""
    assert qbdi.setLogPriority(getattr(qbdi, name)) is None
    assert qbdi.setLogPriority(priority=getattr(qbdi, name)) is None


@pytest.mark.parametrize("arguments", [(3,), (None,), ("ERROR",), ()])
def test_what_is_no_log_priority(qbdi: Any, arguments: Any) -> None:
    """A LogPriority is due; else TypeError."""
    with pytest.raises(TypeError):
        qbdi.setLogPriority(*arguments)


def test_initial_state(qbdi: Any) -> None:
    """A new VM's registers are 0, but for the floating-point control words."""
    vm = qbdi.VM()
    gpr, fpr = vm.getGPRState(), vm.getFPRState()
    assert [gpr[n] for n in range(17)] == [0] * 17
    assert gpr.eflags == either(qbdi, pyqbdi=0, right=0x202, reason="bit 1 is always set")
    assert (fpr.rfcw, fpr.rfsw, fpr.ftw) == (0x37F, 0, 0)
    assert (fpr.mxcsr, fpr.mxcsrmask) == (0x1F80, 0xFFFF)
    assert {getattr(fpr, f"xmm{n}") for n in range(16)} == {bytes(16)}
