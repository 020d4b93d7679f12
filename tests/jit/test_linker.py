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
        # mov edx, count; call [rbx + rdx * 8 - 8]; dec edx; jnz; dec ecx; jnz
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
        loop = b"\xff\x54\xcb\xf8\xff\xc9\x75\xf8\xc3"  # call [rbx + rcx * 8 - 8]; dec ecx; jnz
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

    def child(count: int) -> None:
        import ctypes
        import struct

        from tests.jit.maze import machine, map_code

        vm = machine()
        # The index is (app ^ app >> 15) & mask: in each 32 KiB one address has the wanted one.
        mask = (1 << 14) - 1
        base = map_code(count << 15)
        pages = range(base, base + (count << 15), 1 << 15)
        targets = [page + ((page >> 15 ^ page ^ 0x123) & mask) for page in pages]
        assert len({(target >> 15 ^ target) & mask for target in targets}) <= 2
        for number, place in enumerate(targets):
            code = b"\x49\x81\xc0" + struct.pack("<i", number) + b"\xc3"
            ctypes.memmove(place, code, len(code))
        table = map_code(8 * count + 4096)
        words = struct.pack(f"<{count}Q", *targets)
        ctypes.memmove(table, words, len(words))
        loop = b"\xff\x54\xcb\xf8\xff\xc9\x75\xf8\xc3"  # call [rbx + rcx * 8 - 8]; dec ecx; jnz
        start = table + 8 * count
        ctypes.memmove(start, loop, len(loop))
        gpr = vm.getGPRState()
        gpr.rbx = table
        for _ in range(2):
            gpr.rcx, gpr.r8 = count, 0
            assert vm.call(start, [])[0]
            assert gpr.r8 == sum(range(count))
        assert vm.stats.lookup_misses <= 2 * count + 4

    run_in_child(child, 5000)


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
        rsp = gpr.rsp
        for turn in range(60):
            for number in (0, 1, 1, 2, 3, 0):
                gpr.rax, gpr.rcx = targets[number], 0xDEAD
                assert vm.run(base, end)
                assert gpr.rcx == values[number], (turn, number)
                gpr.rcx, gpr.rsp = 0xDEAD, rsp - 8 * (kind == "call")
                assert vm.run(targets[number], end)  # and entered directly
                assert (gpr.rcx, gpr.rsp) == (values[number], rsp)
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
        import pytest

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
                with pytest.raises(pydbi.GuestFault) as caught:
                    code.vm.run(code[start], code["end"])
                fault = caught.value
                assert (fault.app_address, fault.fault_address) == (code["target"], 8)
                assert (gpr.rcx, gpr.rip) == (0x1234567890, code["target"])
                gpr.rdx = code.data
                code.vm.run(code[start], code["end"])
                assert gpr.rcx == 42

    run_in_child(child)


@pytest.mark.parametrize("seed", [1, 2])
def test_code_in_places_far_apart(run_in_child: Child, seed: int) -> None:
    """Code in three places more than 2 GiB apart calls to and fro; each has an arena near it."""

    def child(seed: int) -> None:
        from tests.jit.maze import Maze, machine, map_code, slots

        vm = machine()
        places = [0x2000_0000_0000 + number * (5 << 30) for number in range(3)]
        addresses: list[int] = []
        doors = []
        for place in places:
            map_code(1 << 16, place)
            doors.append(place + 0x8000)
            addresses += slots(place, 30)
        maze = Maze(addresses, seed, doors)
        for _ in range(150):
            maze.check(vm, maze.random.randrange(maze.count), 300)
            block = maze.random.randrange(maze.count)
            maze.change(block)
            vm.clearCache(maze.addresses[block], maze.addresses[block] + 64)
        for place in places:
            assert sum(arena.reaches(place) for arena in vm._engine.cache.arenas) == 1
        assert vm._engine.cache.far_arena is None

    run_in_child(child, seed)


@pytest.mark.parametrize("seed", [3, 4])
def test_links_between_arenas_out_of_reach(run_in_child: Child, seed: int) -> None:
    """Direct jumps that reach in the guest, but not between arenas, are linked all the same."""

    def child(seed: int) -> None:
        from pydbi.host.memory import map_memory
        from tests.jit.maze import Maze, machine, map_code, slots

        vm = machine()
        first = 0x2000_0000_0000
        second = first + (1 << 31) - (32 << 20)

        # The first arena lies below its code, the second one cannot: so they are further apart.
        map_memory(256 << 20, 0, second - (256 << 20), fixed_noreplace=True)
        map_memory(256 << 20, 0, first + (1 << 16), fixed_noreplace=True)
        for place in (first, second):
            map_code(1 << 16, place)
        maze = Maze(slots(first, 30) + slots(second, 30), seed)
        for _ in range(100):
            maze.check(vm, maze.random.randrange(maze.count), 300)
            block = maze.random.randrange(maze.count)
            maze.change(block)
            vm.clearCache(maze.addresses[block], maze.addresses[block] + 64)
        low, high = sorted(arena.address for arena in vm._engine.cache.arenas)
        assert high - low > 1 << 31
        before = vm.stats.direct_exits
        vm.clearAllCache()
        for _ in range(3):
            maze.check(vm, 0, 20_000)
        # An exit that could not be linked would leave the cache thousands of times.
        assert vm.stats.direct_exits - before < 500

    run_in_child(child, seed)


@pytest.mark.parametrize("count", [12, 40])
def test_code_in_many_places(run_in_child: Child, count: int) -> None:
    """Code in a dozen places that are too far apart for one arena runs in turns; there is a limit.

    Beyond it CacheError says so, and code in the other places goes on working.
    """

    def child(count: int) -> None:
        import ctypes
        import struct

        import pytest

        import pydbi
        from tests.jit.maze import machine, map_code

        vm = machine()
        places = [0x1000_0000_0000 + number * (5 << 30) for number in range(count)]
        for number, place in enumerate(places):
            map_code(4096, place)
            following = places[(number + 1) % len(places)]
            code = b"\x49\x83\xc0\x03\xff\xc9\x74\x0c"  # add r8, 3; dec ecx; jz +12
            code += b"\x48\xb8" + struct.pack("<Q", following) + b"\xff\xe0\xc3"
            ctypes.memmove(place, code, len(code))
        gpr = vm.getGPRState()
        for _ in range(2):
            gpr.rcx, gpr.r8 = 1000, 0
            rsp = gpr.rsp
            if count > 14:
                with pytest.raises(pydbi.CacheError):
                    vm.call(places[0], [])
                assert gpr.rip in places
                gpr.rsp, gpr.rcx, gpr.r8 = rsp, 10, 2970
            assert vm.call(places[0], [])[0]
            assert gpr.r8 == 3000

    run_in_child(child, count)
