"""What the processor has and the kernel permits: CPUID, XCR0, FSGSBASE.

Nothing is executed at import; `cpu` asks once, on its first call.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable
from types import MappingProxyType

from pydbi.host.libc import AT_HWCAP2, PROT_EXEC, PROT_READ, libc
from pydbi.host.memory import PAGE_SIZE, map_memory, protect_memory, unmap_memory, view
from pydbi.tuples import NamedTuple

# State components: bit numbers in XCR0, and sub-leaves of CPUID leaf 0xD (SDM volume 1, 13.1).
X87, SSE, AVX, OPMASK, ZMM_HI256, HI16_ZMM, PKRU = 0, 1, 2, 5, 6, 7, 9

# The legacy region of the XSAVE area, and the header behind it (SDM volume 1, 13.4).
_LEGACY_SIZE, _HEADER_SIZE = 512, 64

_AVX_STATE = 1 << SSE | 1 << AVX
_AVX512_STATE = _AVX_STATE | 1 << OPMASK | 1 << ZMM_HI256 | 1 << HI16_ZMM

_HWCAP2_FSGSBASE = 1 << 1  # <asm/hwcap2.h>

# void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t result[4])
_CPUID_CODE = bytes.fromhex(
    "53"  #          push rbx            ; belongs to the caller
    "49 89 d0"  #    mov  r8, rdx        ; cpuid overwrites rdx
    "89 f8"  #       mov  eax, edi
    "89 f1"  #       mov  ecx, esi
    "0f a2"  #       cpuid
    "41 89 00"  #    mov  [r8], eax
    "41 89 58 04"  # mov  [r8+4], ebx
    "41 89 48 08"  # mov  [r8+8], ecx
    "41 89 50 0c"  # mov  [r8+12], edx
    "5b"  #          pop  rbx
    "c3"  #          ret
)
_CPUID_TYPE = ctypes.CFUNCTYPE(
    None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)
)

# uint64_t xgetbv(uint32_t register)
_XGETBV_CODE = bytes.fromhex(
    "89 f9"  #       mov  ecx, edi
    "0f 01 d0"  #    xgetbv              ; edx:eax
    "48 c1 e2 20"  # shl  rdx, 32
    "48 09 d0"  #    or   rax, rdx
    "c3"  #          ret
)
_XGETBV_TYPE = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint32)

Leaf = tuple[int, int, int, int]
"""eax, ebx, ecx and edx of one CPUID leaf."""


class Component(NamedTuple):
    """Where one state component lies in an XSAVE area in standard format."""

    offset: int
    size: int


class Cpu(NamedTuple):
    """Facts about the processor, as far as the operating system lets programs use it."""

    vendor: str
    """CPUID leaf 0, for instance ``GenuineIntel`` or ``AuthenticAMD``."""
    fsgsbase: bool
    """Programs may execute rdfsbase, wrgsbase and their kin."""
    xsave: bool
    """The kernel has enabled XSAVE, and so XGETBV can be executed."""
    xcr0: int
    """Enabled state components, a bit each."""
    avx: bool
    """AVX instructions can be executed."""
    avx512: bool
    """AVX-512F instructions can be executed."""
    rtm: bool
    """Transactions can be begun (they may all abort)."""
    bmi2: bool
    """RORX and its kin can be executed."""
    xsave_size: int
    """Bytes of an XSAVE area in standard format with all enabled components."""
    components: MappingProxyType[int, Component]
    """The enabled components by their bit number."""


def _read_cpu(cpuid: Callable[[int, int], Leaf], xgetbv: Callable[[int], int]) -> Cpu:
    highest, *names = cpuid(0, 0)
    vendor = struct.pack("<3I", names[0], names[2], names[1]).decode("ascii", "replace")
    features = cpuid(1, 0)[2]
    extended = cpuid(7, 0)[1] if highest >= 7 else 0
    xsave = bool(features >> 27 & 1)  # OSXSAVE
    xcr0 = xgetbv(0) if xsave else 0
    size = _LEGACY_SIZE + _HEADER_SIZE
    components = {X87: Component(0, 160), SSE: Component(160, 256)}
    if xsave and highest >= 0xD:
        size = cpuid(0xD, 0)[1]
        for number in range(2, 63):
            if xcr0 >> number & 1:
                length, offset, _, _ = cpuid(0xD, number)
                components[number] = Component(offset, length)
    return Cpu(
        vendor=vendor,
        fsgsbase=bool(libc.getauxval(AT_HWCAP2) & _HWCAP2_FSGSBASE),
        xsave=xsave,
        xcr0=xcr0,
        avx=bool(features >> 28 & 1) and xcr0 & _AVX_STATE == _AVX_STATE,
        avx512=bool(extended >> 16 & 1) and xcr0 & _AVX512_STATE == _AVX512_STATE,
        rtm=bool(extended >> 11 & 1),
        bmi2=bool(extended >> 8 & 1),
        xsave_size=size,
        components=MappingProxyType(components),
    )


@functools.cache
def cpu() -> Cpu:
    """Return the facts about this processor; it is asked on the first call only."""
    page = map_memory(PAGE_SIZE)
    try:
        code = view(page, PAGE_SIZE)
        code[: len(_CPUID_CODE)] = _CPUID_CODE
        xgetbv_offset = 64
        code[xgetbv_offset : xgetbv_offset + len(_XGETBV_CODE)] = _XGETBV_CODE
        protect_memory(page, PAGE_SIZE, PROT_READ | PROT_EXEC)
        raw_cpuid, raw_xgetbv = _CPUID_TYPE(page), _XGETBV_TYPE(page + xgetbv_offset)

        def cpuid(leaf: int, subleaf: int) -> Leaf:
            result = (ctypes.c_uint32 * 4)()
            raw_cpuid(leaf, subleaf, result)
            return result[0], result[1], result[2], result[3]

        return _read_cpu(cpuid, lambda register: int(raw_xgetbv(register)))
    finally:
        unmap_memory(page, PAGE_SIZE)


def has_fsgsbase() -> bool:
    """Whether programs may execute rdfsbase, wrgsbase and their kin."""
    return cpu().fsgsbase


def has_avx() -> bool:
    """Whether AVX instructions can be executed and the kernel keeps their registers."""
    return cpu().avx


def has_avx512() -> bool:
    """Whether AVX-512F instructions can be executed and the kernel keeps their registers."""
    return cpu().avx512


def has_rtm() -> bool:
    """Whether xbegin is an instruction here."""
    return cpu().rtm


def has_bmi2() -> bool:
    """Whether RORX and its kin can be executed."""
    return cpu().bmi2
