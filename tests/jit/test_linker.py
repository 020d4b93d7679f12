"""Lookup tables of indirect branches, links between arenas, and undoing both."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]


def test_targets_that_share_a_table_entry(run_in_child: Child) -> None:
    """Indirect targets with equal low 16 bits alternate without leaving the cache."""

    def child() -> None:
        import ctypes
        import struct

        from tests.jit.maze import machine, map_code

        vm = machine()
        count, rounds = 5, 10_000
        base = map_code(count << 16)
        functions = [base + (number << 16) + 0x120 for number in range(count)]
        for number, function in enumerate(functions):  # add r8, 10 ** number; ret
            ctypes.memmove(function, b"\x49\x81\xc0" + struct.pack("<i", 10**number) + b"\xc3", 8)
        table = struct.pack(f"<{count}Q", *functions)
        ctypes.memmove(base + 0x800, table, len(table))
        # mov edx, count; call [rbx + rdx * 8 - 8]; dec edx; jnz; dec ecx; jnz; ret
        loop = b"\xba" + struct.pack("<i", count)
        loop += b"\xff\x54\xd3\xf8\xff\xca\x75\xf8\xff\xc9\x75\xef\xc3"
        ctypes.memmove(base, loop, len(loop))
        gpr = vm.getGPRState()
        for instrumented in (False, True):
            gpr.rbx, gpr.rcx, gpr.r8 = base + 0x800, rounds, 0
            assert vm.call(base, [])[0]
            assert gpr.r8 == rounds * 11111, instrumented
        stats = vm.stats
        assert stats.lookup_misses < 4 * count
        assert stats.lookup_collisions >= 2 * rounds * (count - 1)

    run_in_child(child)


def test_second_level_table_grows(run_in_child: Child) -> None:
    """Fifty thousand indirect targets are all found again without leaving the cache."""

    def child() -> None:
        import ctypes
        import struct

        from tests.jit.maze import machine, map_code

        vm = machine()
        count = 50_000
        base = map_code(16 * count)
        table = map_code(8 * count + 4096)
        for number in range(count):  # add r8, number; ret
            code = b"\x49\x81\xc0" + struct.pack("<i", number) + b"\xc3"
            ctypes.memmove(base + 16 * number, code, len(code))
        targets = struct.pack(f"<{count}Q", *range(base, base + 16 * count, 16))
        ctypes.memmove(table, targets, len(targets))
        loop = b"\xff\x54\xcb\xf8\xff\xc9\x75\xf8\xc3"  # call [rbx + rcx * 8 - 8]; dec ecx; jnz; ret
        start = table + 8 * count
        ctypes.memmove(start, loop, len(loop))
        gpr = vm.getGPRState()
        gpr.rbx = table
        misses = []
        for _ in range(3):
            gpr.rcx, gpr.r8 = count, 0
            assert vm.call(start, [])[0]
            assert gpr.r8 == sum(range(count))
            misses.append(vm.stats.lookup_misses)
        assert misses[0] >= count
        assert misses[1] == misses[2] == misses[0]

    run_in_child(child)


def test_targets_with_one_hash_value(run_in_child: Child) -> None:
    """Thousands of indirect targets that hash to one place of the second table are told apart."""

    def child() -> None:
        import ctypes
        import struct

        from tests.jit.maze import machine, map_code

        vm = machine()
        vm.getGPRState().r8 = 0
        # (app ^ app >> 15) of multiples of 2 ** 31 and more has its low 14 bits in common.
        found = []
        for number in range(1, 120):
            address = 0x10_0000_0000_00 + (number << 32)
            if map_code(4096, address) == address:
                code = b"\x49\x81\xc0" + struct.pack("<i", number) + b"\xc3"
                ctypes.memmove(address, code, len(code))
                found.append(address)
        vm2 = machine()
        assert len(found) > 100
        return vm, vm2

    def far(count: int) -> None:
        import ctypes
        import struct

        from tests.jit.maze import machine, map_code

        vm = machine()
        shift, mask = 15, (1 << 14) - 1
        base = map_code(512 << 20)
        wanted = (base >> shift ^ base) & mask
        targets = []
        for address in range(base, base + (512 << 20) - 16, 1 << shift):
            # Of every 32 KiB one address has the wanted hash value.
            place = (address & -(1 << shift)) + ((address >> shift ^ wanted) & mask)
            if (place >> shift ^ place) & mask == wanted and base <= place:
                targets.append(place)
            if len(targets) == count:
                break
        assert len(targets) == count
        for number, place in enumerate(targets):
            code = b"\x49\x81\xc0" + struct.pack("<i", number) + b"\xc3"
            ctypes.memmove(place, code, len(code))
        table = map_code(8 * count + 4096)
        words = struct.pack(f"<{count}Q", *targets)
        ctypes.memmove(table, words, len(words))
        loop = b"\xff\x54\xcb\xf8\xff\xc9\x75\xf8\xc3"  # call [rbx + rcx * 8 - 8]; dec ecx; jnz; ret
        start = table + 8 * count
        ctypes.memmove(start, loop, len(loop))
        gpr = vm.getGPRState()
        gpr.rbx = table
        for _ in range(2):
            gpr.rcx, gpr.r8 = count, 0
            assert vm.call(start, [])[0]
            assert gpr.r8 == sum(range(count))
        assert vm.stats.lookup_misses <= 2 * count + 4

    run_in_child(far, 5000)


@pytest.mark.parametrize("kind", ["jmp", "call", "ret"])
def test_forgotten_targets_of_indirect_branches(run_in_child: Child, kind: str) -> None:
    """A changed and forgotten indirect target is found anew; targets sharing its entry stay."""

    def child(kind: str) -> None:
        import ctypes
        import struct

        from tests.jit.maze import machine, map_code

        vm = machine()
        base = map_code(4 << 16)
        end = base + 0x8000
        branch = {"jmp": b"\xff\xe0", "call": b"\xff\xd0", "ret": b"\x50\xc3"}[kind]
        ctypes.memmove(base, branch, len(branch))
        back = b"\x48\x83\xc4\x08" if kind == "call" else b""  # add rsp, 8
        targets = [base + 0x100 + (number << 16) for number in range(4)]

        def write(number: int, value: int) -> None:
            code = back + b"\xb9" + struct.pack("<i", value)  # mov ecx, value
            code += b"\xe9" + struct.pack("<i", end - targets[number] - len(code) - 5)
            ctypes.memmove(targets[number], code, len(code))

        values = [number * 100 for number in range(4)]
        for number in range(4):
            write(number, values[number])
        gpr = vm.getGPRState()
        for turn in range(60):
            for number in (0, 1, 1, 2, 3, 0):
                gpr.rax, gpr.rcx = targets[number], 0xDEAD
                assert vm.run(base, end)
                assert gpr.rcx == values[number], (turn, number)
                gpr.rcx = 0xDEAD  # and entered directly
                assert vm.run(targets[number], end) or kind == "call"
                assert gpr.rcx == values[number]
            changed = turn % 4
            values[changed] += 1
            write(changed, values[changed])
            if turn % 7 == 6:
                vm.clearAllCache()
            else:
                vm.clearCache(targets[changed], targets[changed] + 1)

    run_in_child(child, kind)


def test_first_instruction_that_overwrites_rcx(run_in_child: Child) -> None:
    """A target that begins by loading rcx sees the guest's rcx if the load faults."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        text = """
        indirect: lea rax, [rip + target]; jmp rax
        direct: jmp target
        target: mov rcx, [rdx]; add rcx, 1
        end: nop"""
        code = GuestCode(pydbi, text, "indirect", "direct", "target", "end")
        gpr = code.vm.getGPRState()
        code._pages[0x8000:0x8008] = (41).to_bytes(8, "little")
        for _ in range(3):
            for start in ("indirect", "direct", "target"):
                gpr.rcx, gpr.rdx = 0x1234567890, 8
                try:
                    code.vm.run(code[start], code["end"])
                except pydbi.GuestFault as fault:
                    assert (fault.app_address, fault.fault_address) == (code["target"], 8)
                else:
                    raise AssertionError("the load from address 8 did not fault")
                assert (gpr.rcx, gpr.rip) == (0x1234567890, code["target"])
                gpr.rdx = code.data
                code.vm.run(code[start], code["end"])
                assert gpr.rcx == 42

    run_in_child(child)


@pytest.mark.parametrize("seed", [1, 2])
def test_code_in_places_far_apart(run_in_child: Child, seed: int) -> None:
    """Code in three places more than 2 GiB apart calls to and fro; each has an arena near it."""

    def child(seed: int) -> None:
        from tests.jit.maze import _CALL, _CALL_INDIRECT, _INDIRECT, Maze, machine, map_code, slots

        vm = machine()
        places = [0x2000_0000_0000 + number * (5 << 30) for number in range(3)]
        addresses: list[int] = []
        for place in places:
            map_code(1 << 16, place)
        # Direct jumps stay in one place, so the end of the run has to be near each of them: it is
        # reached by an indirect jump from two of them, which `jz end` cannot do.
        near = slots(places[0], 30)
        addresses = near[:-1] + [near[-1]]
        maze = Maze(addresses, seed, (_INDIRECT, _CALL, _CALL_INDIRECT))
        outside = [slots(place, 30) for place in places[1:]]
        mazes = [Maze(o, seed + 7, (_INDIRECT, _CALL, _CALL_INDIRECT)) for o in outside]
        # Calls through r9 of every maze go to a function of the next one.
        for turn in range(40):
            for position, one in enumerate([maze, *mazes]):
                one.check(vm, one.random.randrange(one.count), 300)
                block = one.random.randrange(one.count)
                one.change(block)
                vm.clearCache(one.addresses[block], one.addresses[block] + 64)
                assert position < 3 or turn
        arenas = vm._engine.cache.arenas
        assert len(arenas) == 3
        for place in places:
            assert sum(arena.reaches(place) for arena in arenas) == 1

    run_in_child(child, seed)
