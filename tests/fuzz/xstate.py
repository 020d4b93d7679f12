"""A processor state (`tests.exec.machine_state`) as the XSAVE area that ptrace takes and gives."""

from __future__ import annotations

import struct

from pydbi.host.cpu import AVX, HI16_ZMM, OPMASK, SSE, X87, ZMM_HI256, cpu
from tests.exec.machine_state import State

_MXCSR, _ST, _XMM, _HEADER = 24, 32, 160, 512
_LEVELS = {1: (X87, SSE, AVX), 2: (X87, SSE, AVX, OPMASK, ZMM_HI256, HI16_ZMM)}


def _vector_pieces(vector: int) -> list[tuple[str, int, int, int]]:
    """Return (register, first byte within it, offset in the area, size) of all vector registers."""
    parts = {number: part.offset for number, part in cpu().components.items()}
    name = "zmm" if vector == 2 else "ymm"
    pieces = []
    for n in range(16):
        pieces.append((f"{name}{n}", 0, _XMM + 16 * n, 16))
        pieces.append((f"{name}{n}", 16, parts[AVX] + 16 * n, 16))
        if vector == 2:
            pieces.append((f"{name}{n}", 32, parts[ZMM_HI256] + 32 * n, 32))
    if vector == 2:
        pieces += [(f"{name}{n + 16}", 0, parts[HI16_ZMM] + 64 * n, 64) for n in range(16)]
    return pieces


class Converter:
    """Between states and XSAVE areas in standard format (SDM volume 1, 13.4).

    Args:
        vector: 1 for ymm0-15, 2 for zmm0-31 and k0-7, as in `machine_state`.
    """

    def __init__(self, vector: int) -> None:
        self.size = cpu().xsave_size
        self._pieces = _vector_pieces(vector)
        self._components = sum(1 << number for number in _LEVELS[vector])
        self._opmask = cpu().components[OPMASK].offset if vector == 2 else 0

    def to_area(self, state: State) -> bytes:
        """Return the area that sets all vector and x87 registers."""
        area = bytearray(self.size)
        struct.pack_into("<HHB", area, 0, state["rfcw"], state["rfsw"], state["ftw"])
        struct.pack_into("<I", area, _MXCSR, state["mxcsr"])
        struct.pack_into("<Q", area, _HEADER, self._components)
        for n in range(8):
            area[_ST + 16 * n : _ST + 16 * n + 10] = state[f"stmm{n}"]
        for name, first, at, size in self._pieces:
            area[at : at + size] = state[name][first : first + size]
        if self._opmask:
            struct.pack_into("<8Q", area, self._opmask, *(state[f"k{n}"] for n in range(8)))
        return bytes(area)

    def from_area(self, area: bytes) -> State:
        """Return the vector and x87 registers in an area."""
        state: State = {}
        state["rfcw"], state["rfsw"], state["ftw"] = struct.unpack_from("<HHB", area)
        state["mxcsr"] = struct.unpack_from("<I", area, _MXCSR)[0]
        for n in range(8):
            state[f"stmm{n}"] = area[_ST + 16 * n : _ST + 16 * n + 10]
        for name, first, at, size in self._pieces:
            piece = area[at : at + size]
            state[name] = state[name] + piece if first else piece
        if self._opmask:
            values = struct.unpack_from("<8Q", area, self._opmask)
            state.update((f"k{n}", value) for n, value in enumerate(values))
        return state
