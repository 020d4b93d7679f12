"""What cannot be translated is refused when it is reached, with its address and bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]

_INSTRUCTIONS = {
    "iretq": "48cf",
    "retf": "cb",
    "far jump": "ff2d00000000",
    "a selector in GS": "8ee8",
    "a selector in FS": "0fa1",
    "a gather through GS with 32-bit addresses": "6567c4e26d900c88",
}


@pytest.mark.parametrize("name", _INSTRUCTIONS)
def test_refused_where_it_is_reached(name: str, run_in_child: Child) -> None:
    """All before it is executed, nothing of it, and the guest can go on behind it."""

    def child(encoding: str) -> None:
        import pytest

        import pydbi
        from tests.exec.guest_code import GuestCode

        code = bytes.fromhex(encoding)
        values = ", ".join(map(str, code))
        text = f"start: mov eax, 5; push rax\nat: .byte {values}\nbehind: add eax, 1\nend: nop"
        guest = GuestCode(pydbi, text, "start", "at", "behind", "end")
        rsp = guest.vm.getGPRState().rsp
        for _ in range(2):
            gpr = guest.vm.getGPRState()
            gpr.rax, gpr.rsp = 0, rsp
            guest.vm.setGPRState(gpr)
            with pytest.raises(pydbi.UnsupportedInstruction, match=f"{guest['at']:#x}") as caught:
                guest.vm.run(guest["start"], guest["end"])
            assert caught.value.app_address == guest["at"]
            assert code.hex(" ") in str(caught.value)
            gpr = guest.vm.getGPRState()
            assert (gpr.rip, gpr.rax, gpr.rsp) == (guest["at"], 5, rsp - 8)
        assert guest.vm.run(guest["behind"], guest["end"])
        assert guest.vm.getGPRState().rax == 6

    run_in_child(child, _INSTRUCTIONS[name])


def test_state_before_a_refused_instruction(run_in_child: Child) -> None:
    """What comes before a refused instruction in its block counts: its x87 state is kept."""

    def child() -> None:
        import math
        import struct

        import pytest

        import pydbi
        from tests.exec.guest_code import GuestCode

        text = "start: fldpi; mov gs, eax\nafter: fstp qword ptr [rip + data]\nend: nop"
        code = GuestCode(pydbi, text, "start", "after", "end")
        for _ in range(2):
            with pytest.raises(pydbi.UnsupportedInstruction):
                code.vm.run(code["start"], code["end"])
            assert code.vm.run(code["after"], code["end"])
            assert struct.unpack("<d", code.read(0, 8)) == (math.pi,)

    run_in_child(child)
