"""Everything that can be done to a VM, in random order, between and within runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]


@pytest.mark.parametrize("arena_size", [0, 256 << 10])
@pytest.mark.parametrize("seed", range(6))
def test_random_operations(run_in_child: Child, seed: int, arena_size: int) -> None:
    """Callbacks, ranges, stops, changed code and cleared caches: results and counts stay right."""

    def child(seed: int, arena_size: int) -> None:
        import random

        import pydbi
        from tests.jit.maze import SLOT_SIZE, Maze, machine, map_code, slots

        chance = random.Random(seed)
        vm = machine(arena_size)
        maze = Maze(slots(map_code(1 << 16), 50), seed)
        places = maze.addresses
        instrumented = [True] * (maze.count + 1)
        counts: dict[int, int] = {}  # by id: calls of it
        scope: dict[int, tuple[str, int, int]] = {}  # by id: position, first and last block

        def count(vm: object, gpr: object, fpr: object, box: list[int]) -> pydbi.VMAction:
            counts[box[0]] += 1
            return pydbi.CONTINUE

        def add() -> None:
            position = chance.choice(("PREINST", "POSTINST"))
            where, box = getattr(pydbi, position), [-1]
            first = chance.randrange(maze.count)
            last = min(first + chance.randrange(1, 20), maze.count)
            kind = chance.randrange(3)
            if kind == 0:
                first, last = 0, maze.count + 1
                box[0] = vm.addCodeCB(where, count, box, chance.randrange(3))
            elif kind == 1:
                low, high = places[first], places[last]
                box[0] = vm.addCodeRangeCB(low, high, where, count, box)
            else:
                last = -1
                box[0] = vm.addCodeAddrCB(places[first], where, count, box)
            counts[box[0]] = 0
            scope[box[0]] = (position, first, last)

        def expected(identity: int, stop: int) -> int:
            position, first, last = scope[identity]
            before = position == "PREINST" and maze.fell  # no branch: it sees the stop too
            if last == -1:
                visits = maze.visits[first] - (first == stop and not before)
                return visits * instrumented[first]
            inside = [n for n in range(first, last) if instrumented[n]]
            return sum(maze.executed[n] for n in inside) + (before and stop in inside)

        def run() -> None:
            start = chance.randrange(maze.count)
            while not instrumented[start]:
                start = chance.randrange(maze.count)
            stop = chance.choice((None, chance.randrange(maze.count)))
            if stop == start:
                stop = None
            for identity in counts:
                counts[identity] = 0
            maze.check(vm, start, chance.randrange(1, 200), stop)
            if sum(maze.visits):
                end = maze.count if stop is None else stop
                for identity, number in counts.items():
                    wanted = expected(identity, end)
                    assert number == wanted, (scope[identity], number, wanted)

        def change() -> None:
            block = chance.randrange(maze.count)
            maze.change(block)
            vm.clearCache(places[block], places[block] + SLOT_SIZE)

        def clear() -> None:
            first = chance.randrange(maze.count)
            if chance.random() < 0.2:
                vm.clearAllCache()
            else:
                vm.clearCache(places[first] + chance.randrange(64), places[first] + 640)

        def ranges() -> None:
            first = chance.randrange(maze.count)
            last = chance.randrange(first, maze.count + 1)
            keep = chance.random() < 0.7 or sum(instrumented[:-1]) < maze.count // 2
            method = vm.addInstrumentedRange if keep else vm.removeInstrumentedRange
            method(places[first], places[last] + (last == maze.count))
            instrumented[first:last] = [keep] * (last - first)
            if last == maze.count and last > first:
                instrumented[-1] = False
            if last == maze.count:
                vm.addInstrumentedRange(places[-1], places[-1] + 2)
                instrumented[-1] = True

        def delete() -> None:
            if counts and chance.random() < 0.1:
                vm.deleteAllInstrumentations()
                counts.clear()
            elif counts:
                identity = chance.choice(list(counts))
                vm.deleteInstrumentation(identity)
                del counts[identity]

        def precache() -> None:
            offset = chance.choice((0, 7, 11, 14, 20))
            vm.precacheBasicBlock(chance.choice(places[:-1]) + offset)

        operations = [run] * 6 + [change, clear, ranges, precache, add, delete]
        for _ in range(600):
            chance.choice(operations)()
            while len(counts) > 5:
                delete()

    run_in_child(child, seed, arena_size)


@pytest.mark.parametrize("arena_size", [0, 256 << 10])
@pytest.mark.parametrize("seed", range(4))
def test_random_operations_in_callbacks(run_in_child: Child, seed: int, arena_size: int) -> None:
    """Callbacks stop, raise, break off, clear, add and delete at random; resumed runs are right."""

    def child(seed: int, arena_size: int) -> None:
        import contextlib
        import random

        import pydbi
        from tests.jit.maze import _CALLED, SLOT_SIZE, Maze, machine, map_code, slots

        class InterruptionError(Exception):
            pass

        chance = random.Random(seed)
        vm = machine(arena_size)
        maze = Maze(slots(map_code(1 << 16), 50), seed)
        places = maze.addresses
        alive: list[int] = []
        done = dict.fromkeys(("stop", "raise", "break", "clear", "all", "add", "delete"), 0)

        def act(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: object, data: object) -> pydbi.VMAction:
            if chance.random() > 0.05 or gpr.rip == maze.end:
                return pydbi.CONTINUE
            what = chance.choice(list(done))
            done[what] += 1
            if what == "stop":
                return pydbi.STOP
            if what == "raise":
                raise InterruptionError
            if what == "clear":
                place = chance.choice((gpr.rip, chance.choice(places)))
                vm.clearCache(place, place + chance.choice((1, SLOT_SIZE, 1000)))
            elif what == "all":
                vm.clearAllCache()
            elif what == "add":
                add()
            elif what == "delete" and alive:
                vm.deleteInstrumentation(alive.pop(chance.randrange(len(alive))))
            return chance.choice((pydbi.CONTINUE, pydbi.BREAK_TO_VM))

        def add() -> None:
            if len(alive) < 6:
                position = chance.choice((pydbi.PREINST, pydbi.POSTINST))
                if chance.random() < 0.5:
                    alive.append(vm.addCodeCB(position, act, None, chance.randrange(3)))
                else:
                    low = chance.choice(places[:-1])
                    alive.append(vm.addCodeRangeCB(low, low + 500, position, act, None))

        vm.addCodeCB(pydbi.PREINST, act, None, 1)
        add()
        gpr = vm.getGPRState()
        rsp = gpr.rsp
        for turn in range(40):
            start, rounds, r8 = turn % maze.count, chance.randrange(1, 150), chance.getrandbits(64)
            gpr.r8, gpr.rcx, gpr.r9 = r8, rounds, places[maze.called] + _CALLED
            address = places[start]
            while address != maze.end:
                with contextlib.suppress(InterruptionError):
                    vm.run(address, maze.end)
                address = gpr.rip
            assert gpr.r8 == maze.model(start, r8, rounds)
            assert (gpr.rcx, gpr.rsp) == (0, rsp)
            block = chance.randrange(maze.count)
            maze.change(block)
            vm.clearCache(places[block], places[block] + SLOT_SIZE)
        assert min(done.values()) > 10, done

    run_in_child(child, seed, arena_size)
