"""Placement of blocks, forgetting them one by one and all at once, and full arenas."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]


def test_fall_through_has_no_jump(run_in_child: Child) -> None:
    """A block that is wanted by the jump at the end of the last one takes that jump's place."""

    def child() -> None:
        import capstone

        import pydbi
        from pydbi.jit.block import Block
        from tests.exec.guest_code import GuestCode

        text = """
        mov eax, 1; jmp there
        int3; int3
        there: add eax, 0x200; jmp further
        int3
        further: add eax, 4
        end: nop"""
        code = GuestCode(pydbi, text, "there", "further", "end")
        code.vm.codeCheck = pydbi.CodeCheck.NEVER
        assert code.vm.run(code.base, code["end"])
        assert code.vm.getGPRState().rax == 0x205
        cache = code.vm._engine.cache
        entries = cache.entries
        first, last = entries[code.base], Block._make(cache.blocks[-1]).code_end
        arena = cache.arena_at(first)
        translated = bytes(arena.memory[first - arena.address : last - arena.address])
        disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        found = [i.mnemonic for i in disassembler.disasm(translated, first)]
        assert found == ["mov", "add", "add", "jmp"]
        assert entries[code["there"]] == first + 5
        assert code.vm.stats.direct_exits == 3

    run_in_child(child)


def test_condition_is_turned_round(run_in_child: Child) -> None:
    """Where a branch is taken at first, its target lies behind it, the jump turned."""

    def child() -> None:
        import capstone

        import pydbi
        from pydbi.jit.block import Block
        from tests.exec.guest_code import GuestCode

        text = "test ecx, ecx; jz there; mov eax, 1; jmp end\nthere: mov eax, 2\nend: nop"
        code = GuestCode(pydbi, text, "there", "end")
        code.vm.codeCheck = pydbi.CodeCheck.NEVER
        gpr = code.vm.getGPRState()
        disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        for taken, mnemonic in ((True, "jne"), (False, "je")):
            code.vm.clearAllCache()
            gpr.rcx = not taken
            code.vm.run(code.base, code["end"])
            cache = code.vm._engine.cache
            first, second = map(Block._make, cache.blocks[:2])
            arena = cache.arena_at(first.code)
            start = first.code - arena.address
            found = list(disassembler.disasm(bytes(arena.memory[start : start + 16]), first.code))
            assert found[1].mnemonic == mnemonic
            # The block that was wanted comes next, without a jump to it.
            assert second.app == (code["there"] if taken else code.base + 4)
            assert second.code == found[1].address + found[1].size
            for value in (0, 1, 0):
                gpr.rcx = value
                code.vm.run(code.base, code["end"])
                assert gpr.rax == (1 if value else 2)

    run_in_child(child)


def test_lone_jump_behind_a_branch(run_in_child: Child) -> None:
    """A branch whose way on is a lone jump goes right both ways, in whatever order they come."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        text = """
        test ecx, ecx; jz there
        jmp elsewhere
        int3
        there: mov eax, 1; jmp end
        elsewhere: mov eax, 2
        end: nop"""
        code = GuestCode(pydbi, text, "elsewhere", "end")
        code.vm.codeCheck = pydbi.CodeCheck.NEVER
        gpr = code.vm.getGPRState()
        for order in ((0, 1, 0, 1), (1, 0, 1, 0)):
            code.vm.clearAllCache()
            # Then nothing is placed between the lone jump and the other way.
            assert code.vm.run(code["elsewhere"], code["end"])
            for value in order:
                gpr.rcx = value
                assert code.vm.run(code.base, code["end"])
                assert gpr.rax == 1 + value

    run_in_child(child)


@pytest.mark.parametrize("kind", ["fallen", "inverted", "plain", "first way of a jcc"])
def test_one_block_of_a_chain_is_forgotten(run_in_child: Child, kind: str) -> None:
    """A block in the middle of a chain is read anew, however the exit that leads to it was made."""

    def child(kind: str) -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        ways = {
            "fallen": "jmp middle; int3",
            "inverted": "cmp eax, 1; je middle; ud2",
            "plain": "nop; jmp middle; int3",
            "first way of a jcc": "cmp eax, 2; jne middle; ud2",
        }
        text = f"""
        start: mov eax, 1; {ways[kind]}
        middle: add eax, 0x1000; jmp last; int3
        last: add eax, 0x20
        end: nop"""
        code = GuestCode(pydbi, text, "start", "middle", "last", "end")
        code.vm.codeCheck = pydbi.CodeCheck.NEVER
        run, gpr = code.vm.run, code.vm.getGPRState()
        if kind == "plain":  # the target is there before the block that leads to it
            code.vm.precacheBasicBlock(code["middle"])
        run(code.base, code["end"])
        engine = code.vm._engine
        leading = [n for n, (to, site) in enumerate(engine.cache.exits) if to == code["middle"]]
        assert len(leading) == 1
        assert (leading[0] in engine.cache.fallen) == (kind != "plain")
        offset = 0x8000 - (code.data - code["middle"]) + 1
        for number in (0x2000, 0x300000, 0x1000):
            code._pages[offset : offset + 4] = number.to_bytes(4, "little")
            code.vm.clearCache(code["middle"], code["middle"] + 1)
            for _ in range(3):
                run(code.base, code["end"])
                assert gpr.rax == 0x21 + number
            run(code["middle"], code["end"])
            assert gpr.rax == 0x21 + number + number + 0x20

    run_in_child(child, kind)


@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_forgotten_and_changed(run_in_child: Child, seed: int) -> None:
    """Any block of a random program can be changed and forgotten, and all others stay right."""

    def child(seed: int) -> None:
        from tests.jit.maze import Maze, machine, map_code, slots

        vm = machine()
        maze = Maze(slots(map_code(1 << 16), 60), seed)
        for _ in range(150):
            maze.check(vm, maze.random.randrange(maze.count), maze.random.randrange(1, 400))
            for _ in range(maze.random.randrange(4)):
                block = maze.random.randrange(maze.count)
                maze.change(block)
                vm.clearCache(maze.addresses[block], maze.addresses[block] + 64)
        assert vm.stats.resets == 0

    run_in_child(child, seed)


@pytest.mark.parametrize("position", ["PREINST", "POSTINST"])
def test_instrumented_blocks_are_forgotten_and_changed(run_in_child: Child, position: str) -> None:
    """The same with a callback at every instruction: none is missed, none comes twice."""

    def child(position: str) -> None:
        import pydbi
        from tests.jit.maze import Maze, machine, map_code, slots

        vm = machine()
        maze = Maze(slots(map_code(1 << 16), 60), 5)
        seen = 0

        def count(*_: object) -> pydbi.VMAction:
            nonlocal seen
            seen += 1
            return pydbi.CONTINUE

        vm.addCodeCB(getattr(pydbi, position), count, None)
        for _ in range(60):
            seen = 0
            maze.check(vm, maze.random.randrange(maze.count), maze.random.randrange(1, 400))
            assert seen == maze.instructions
            block = maze.random.randrange(maze.count)
            maze.change(block)
            vm.clearCache(maze.addresses[block], maze.addresses[block] + 64)

    run_in_child(child, position)


@pytest.mark.parametrize("instrumented", [False, True])
def test_full_arena(run_in_child: Child, instrumented: bool) -> None:
    """A program larger than its arena runs right: the cache is emptied and filled again."""

    def child(instrumented: bool) -> None:
        import pydbi
        from tests.jit.maze import Maze, machine, map_code, slots

        vm = machine(256 << 10)
        maze = Maze(slots(map_code(1 << 19), 6000), 7)
        seen = 0

        def count(*_: object) -> pydbi.VMAction:
            nonlocal seen
            seen += 1
            return pydbi.CONTINUE

        if instrumented:
            vm.addCodeCB(pydbi.PREINST, count, None)
        maze.check(vm, 0, 20_000)
        for start in range(5):
            seen = 0
            maze.check(vm, start * 1000, 5_000)
            assert not instrumented or seen == maze.instructions
        stats = vm.stats
        assert stats.resets >= 3
        assert stats.cache_bytes <= 256 << 10
        assert stats.blocks > len(vm._engine.cache.blocks)
        assert stats.instructions >= stats.blocks

    run_in_child(child, instrumented)


def test_full_arena_while_calling(run_in_child: Child) -> None:
    """`call` works on when the cache is emptied between calls and within them."""

    def child() -> None:
        import ctypes
        import struct

        from tests.jit.maze import machine, map_code

        vm = machine(256 << 10)
        base = map_code(1 << 17)
        for number in range(6000):  # lea rax, [rdi + number]; ret
            ctypes.memmove(
                base + 16 * number, b"\x48\x8d\x87" + struct.pack("<i", number) + b"\xc3", 8
            )
        for _ in range(2):
            for number in range(6000):
                assert vm.call(base + 16 * number, [5]) == (True, 5 + number)
        assert vm.stats.resets >= 2
        assert vm.call(base, [(1 << 64) - 5]) == (True, (1 << 64) - 5)

    run_in_child(child)


def test_gate_records_run_out(run_in_child: Child) -> None:
    """When there is no room for gate records the cache is emptied, and no callback is lost."""

    def child() -> None:
        import pydbi
        from pydbi.jit import cache, gates

        cache.GATE_RECORDS = gates.GATE_RECORDS = 6000
        from tests.jit.maze import Maze, machine, map_code, slots

        vm = machine()
        maze = Maze(slots(map_code(1 << 19), 3000), 11)
        seen = [0, 0, 0]

        def count(vm: object, gpr: object, fpr: object, which: int) -> pydbi.VMAction:
            seen[which] += 1
            return pydbi.CONTINUE

        for which, position in enumerate((pydbi.PREINST, pydbi.POSTINST, pydbi.PREINST)):
            vm.addCodeCB(position, count, which)
        maze.check(vm, 0, 5000)
        assert seen == [maze.instructions, maze.instructions, maze.instructions]
        assert vm.stats.resets >= 3

    run_in_child(child)


def test_long_block_is_split(run_in_child: Child) -> None:
    """Straight code of many thousand instructions runs through, in blocks of limited length."""

    def child() -> None:
        import ctypes

        import pydbi
        from pydbi.jit.block import Block
        from pydbi.jit.block_ends import BLOCK_LIMIT
        from tests.jit.maze import machine, map_code

        count = 20_000
        base = map_code(1 << 17)
        ctypes.memmove(base, b"\x48\xff\xc0" * count + b"\xc3", 3 * count + 1)  # inc rax
        for instrumented in (False, True):
            vm = machine()
            if instrumented:
                vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, None)
            vm.getGPRState().rax = 1
            assert vm.call(base, []) == (True, 1 + count)
            blocks = map(Block._make, vm._engine.cache.blocks)
            assert max(len(block.starts) for block in blocks) == BLOCK_LIMIT
            assert vm.stats.instructions >= count

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_cache_addresses_map_back(run_in_child: Child, instrumented: bool) -> None:
    """Every byte of the translation of a block maps back to the instruction it stands for."""

    def child(instrumented: bool) -> None:
        import ctypes

        import capstone

        import pydbi
        from pydbi.jit.block import Block
        from pydbi.jit.context import SLOT

        vm = pydbi.VM()
        vm.addInstrumentedModule("libc.so.6")
        if instrumented:
            vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, None)
            vm.addCodeCB(pydbi.POSTINST, lambda *_: pydbi.CONTINUE, None)
        library = ctypes.CDLL(None)
        for name in (
            "memcpy",
            "strtod",
            "qsort",
            "printf",
            "strftime",
            "regcomp",
            "sscanf",
            "glob",
        ):
            start = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            assert start
            for address in range(start, start + 4000, 13):
                if address not in vm._engine.broker.functions:
                    try:
                        vm.precacheBasicBlock(address)
                    except (pydbi.DecodeError, pydbi.UnsupportedInstruction):
                        continue  # an address between instructions need not be code
        disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        gate = SLOT["GATE_INDEX"].to_bytes(4, "little")
        checked = copied = 0
        for fields in vm._engine.cache.blocks:
            block = Block._make(fields)
            apps = [block.app + offset for offset in block.starts]
            size = block.end - block.app
            if (
                sum(i.size for i in disassembler.disasm(ctypes.string_at(block.app, size), 0))
                < size
            ):
                continue  # Capstone does not know all of it
            size = block.code_end - block.code
            translated = list(disassembler.disasm(ctypes.string_at(block.code, size), block.code))
            assert sum(i.size for i in translated) == size, f"the block at {block.app:#x}"
            mapped: dict[int, list[bytes]] = {}
            for instruction in translated:
                places = range(instruction.address, instruction.address + instruction.size)
                found = {block.app_of(place) for place in places}
                assert len(found) == 1, f"{instruction} of the block at {block.app:#x}: {found}"
                mapped.setdefault(found.pop(), []).append(bytes(instruction.bytes))
            assert list(mapped) == apps, "each instruction once, and in their order"
            for app, end in zip(apps, [*apps[1:], block.end], strict=True):
                code = ctypes.string_at(app, end - app)
                pieces = [p for p in mapped[app] if gate not in p]
                checked += 1
                if code in pieces:
                    copied += 1
        assert checked > 5000
        assert copied > checked * 0.6

    run_in_child(child, instrumented)
