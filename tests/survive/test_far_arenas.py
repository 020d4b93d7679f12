"""Code whose arenas are further apart than a displacement reaches."""

from __future__ import annotations

import pydbi
from pydbi.host.memory import map_memory
from tests.compat.harness import Guest


def test_the_alignment_check() -> None:
    """With AC set, jumps between arenas that are too far apart for a displacement go on as well."""
    first = 0x2000_0000_0000
    distance = (1 << 31) - (32 << 20)
    # One arena lies below its code, the other one cannot: so they are further apart.
    map_memory(256 << 20, 0, first + distance - (256 << 20), fixed_noreplace=True)
    map_memory(256 << 20, 0, first + (1 << 20), fixed_noreplace=True)
    exits = "".join(f"a{n}: jmp start + {distance} + {n} * 16;" for n in range(4))
    g = Guest(pydbi, f"push 0x40202; popfq; mov rcx, 100; {exits}", at=first)
    places = [g[f"a{n + 1}"] for n in range(3)]
    back = "".join(f".balign 16; jmp start + {place - first - distance};" for place in places)
    Guest(
        pydbi,
        f"{back} .balign 16; dec rcx; jz 1f; jmp start + {g['a0'] - first - distance};"
        f"1: pushfq; pop rdx; push 0x202; popfq; jmp start + {g['end'] - first - distance}",
        at=first + distance,
        vm=g.vm,
    )
    assert g.run()
    assert g.get("rdx") & 0x40000
    low, high = sorted(arena.address for arena in g.vm._engine.cache.arenas)
    assert high - low > 1 << 31
