"""Which memory instructions access: the model against tables, the processor, Capstone, PyQBDI."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pydbi.x86.accesses import OPERAND, Access, accesses_of
from pydbi.x86.instruction import EVEX, LEGACY, scan
from pydbi.x86.operands import operand_of
from tests.exec.gnu_as import PREAMBLE, assemble
from tests.exec.native_runner import vector_level
from tests.x86.libraries import executable_sections, libraries
from tests.x86.memory_forms import evex_forms, instructions

THOROUGH = bool(os.environ.get("PYDBI_TEST_THOROUGH"))

TABLE = """
mov rax, [rbx]                  : r8
mov [rbx], al                   : w1
mov ax, fs:[rbx]                : r2
movabs al, [0x1122334455667788] : r1@absolute
add [rbx], eax                  : r4 w4
cmp [rbx], eax                  : r4
test [rbx], rax                 : r8
lock xadd [rbx], ax             : r2 w2
xchg [rbx], rbx                 : r8 w8
lock cmpxchg8b [rbx]            : r8 w8
cmpxchg16b [rbx]                : r16? w16?
lea rax, [rbx]                  :
prefetcht0 [rbx]                :
clflush [rbx]                   :
nop dword ptr [rbx]             :
mov rax, rbx                    :
push rax                        : w8@push
push ax                         : w2@push
push 5                          : w8@push
push [rbx]                      : r8 w8@push
push fs                         : w8@push
pop [rbx]                       : r8@pop w8
pop [rsp + 8]                   : r8@pop w8+8
popfq                           : r8@pop
call .                          : w8@push
call [rbx]                      : r8 w8@push
jmp [rbx]                       : r8
jmp rbx                         :
ret 8                           : r8@pop
leave                           : r8@frame
enter 8, 0                      : w8*1@enter
enter 8, 1                      : w8*2@enter
enter 8, 3                      : r8*2@enter w8*4@enter
movsq                           : r8@source w8@destination
rep stosb                       : rep w1@destination
repe cmpsw                      : rep r2@source rep r2@destination
lodsd                           : r4@source
scasb                           : r1@destination
xlatb                           : r1@table
bt [rbx], rdx                   : r8@bits
lock bts [rbx], dx              : r2@bits w2@bits
bt dword ptr [rbx], 5           : r4
bt edx, eax                     :
sldt [rbx]                      : w2
sgdt [rbx]                      : w10?
lss eax, [rbx]                  : r6?
clzero                          : w64?@line
fld dword ptr [rbx]             : r4
fstp tbyte ptr [rbx]            : w10?
fisttp qword ptr [rbx]          : w8
fnstenv [rbx]                   : w28?
data16 fldenv [rbx]             : r14?
fnsave [rbx]                    : w108?
fbld [rbx]                      : r10?
fxsave [rbx]                    : w512?
xsave [rbx]                     : r576?> w576?>
xrstor [rbx]                    : r576?>
movss xmm0, [rbx]               : r4
movups [rbx], xmm0              : w16?
cvtpi2ps xmm0, [rbx]            : r8
pinsrb xmm0, [rbx], 1           : r1
extractps [rbx], xmm0, 1        : w4
maskmovq mm0, mm1               : w8?%1@masked
vmaskmovps ymm0, ymm1, [rbx]    : r32?%4
vpmaskmovq [rbx], xmm1, xmm0    : w16?%8
vpsrlw ymm0, ymm1, [rbx]        : r16?
vbroadcastf128 ymm0, [rbx]      : r16?
vpgatherdd ymm0, [rbx + ymm1*4], ymm2 : r4*8@vector
vpgatherqd xmm0, [rbx + ymm1*4], xmm2 : r4*4@vector
vpgatherdq ymm0, [rbx + xmm1*4], ymm2 : r8*4@vector
vmovups zmm0, [rbx]             : r64?
vmovups [rbx]{k1}, zmm0         : w64?%4
vmovdqu16 ymm0{k1}{z}, [rbx]    : r32?%2
vmovss xmm0{k1}, [rbx]          : r4?%4
vaddpd zmm0, zmm1, qword ptr [rbx]{1to8} : r8
vaddpd zmm0{k1}, zmm1, qword ptr [rbx]{1to8} : r8?~8
vpermd zmm0{k1}, zmm1, [rbx]    : r64?
vpcompressd [rbx]{k1}, zmm0     : w64?&4
vpexpandb zmm0{k1}, [rbx]       : r64?&1
vpmovqb [rbx]{k1}, zmm0         : w8?%1
vpmovzxbd zmm0, [rbx]           : r16?
vpscatterqd [rbx + zmm1*2]{k1}, ymm0 : w4*8@vector
"""


def _text(access: Access) -> str:
    """An access as the tables write it."""
    text = ("rep " if access.repeated else "") + ("w" if access.is_write else "r")
    text += str(access.size)
    if access.place in ("vector", "enter"):
        return f"{text}*{access.elements}@{access.place}"
    text += "?" if access.flags & 4 else ""
    text += ">" if access.flags & 2 else ""
    text += f"{access.packing}{access.element}" if access.packing else ""
    text += f"+{access.offset}" if access.offset else ""
    return text if access.place == OPERAND else f"{text}@{access.place}"


def test_accesses_of_each_kind_of_instruction() -> None:
    """Direction, size, place and mask of one instruction of each kind."""
    rows = [line.split(" : ") for line in TABLE.replace(" :\n", " : \n").strip().split("\n")]
    code = assemble(PREAMBLE + "\n".join(text for text, _ in rows) + "\n")
    at = 0
    for text, expected in rows:
        instruction = scan(code, at)
        at += instruction.length
        found = " ".join(map(_text, accesses_of(instruction.code)))
        assert found == expected.strip(), text
    assert at == len(code)


def test_the_lookup_remembers() -> None:
    """The same bytes are looked at once."""
    assert accesses_of(b"\x48\x8b\x03") is accesses_of(bytes((0x48, 0x8B, 0x03)))


def _check_on_the_processor(kind: str) -> None:
    from tests.x86.memory_forms import Witness, evex_forms, instructions, legacy_forms, vex_forms

    # Intel's and AMD's processors check all of what these may store, not only what they do.
    checked_as_a_whole = {(3, opcode) for opcode in (0x19, 0x1B, 0x39, 0x3B)}
    # These may leave out what the mask does not need of their tuple.
    tuples = {(2, opcode) for opcode in (0x19, 0x1A, 0x1B, 0x59, 0x5A, 0x5B)}
    aligned = {(1, 0x28), (1, 0x29), (1, 0x6F), (1, 0x7F)}  # cannot be at the very end
    witness = Witness()
    checked = 0
    if kind == "masked":
        for instruction in instructions(evex_forms(mask=1)):
            if (instruction.opcode_map, instruction.opcode) in (
                checked_as_a_whole | tuples | aligned
            ):
                continue
            wrong = witness.masked_complaints(instruction)
            checked += wrong is not None
            if wrong:
                print(instruction.code.hex(), wrong)
    else:
        forms = {"legacy": legacy_forms, "vex": vex_forms, "evex": evex_forms}[kind]
        for instruction in instructions(forms()):
            masked = instruction.opcode in (0x2C, 0x2D, 0x2E, 0x2F, 0x8C, 0x8E)
            if kind == "vex" and instruction.opcode_map == 2 and masked:
                continue  # the mask is empty
            wrong = witness.complaints(instruction)
            checked += wrong is not None
            if wrong:
                print(instruction.code.hex(), wrong)
    print("checked", checked)


@pytest.mark.parametrize(
    ("kind", "least"), [("legacy", 1000), ("vex", 300), ("evex", 1000), ("masked", 1000)]
)
def test_the_processor_accesses_what_the_model_says(
    kind: str, least: int, run_in_child: Callable[..., str]
) -> None:
    """With less memory than that an instruction faults, with as much it does not; so with masks."""
    needed = {"legacy": 0, "vex": 1}.get(kind, 2)
    if vector_level() < needed:
        pytest.skip("this CPU has no such instructions")
    *wrong, last = run_in_child(_check_on_the_processor, kind).splitlines()
    assert not wrong
    assert int(last.split()[1]) >= least


#: Capstone multiplies by the vector's length: 66 0f 7e with W, and these two with a broadcast.
_WRONG_IN_CAPSTONE = {(1, 0x7E), (3, 0xCE), (3, 0xCF)}


def test_scaled_displacements() -> None:
    """The scale of a one-byte displacement under EVEX is Capstone's."""
    capstone = pytest.importorskip("capstone")
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    compared = 0
    for instruction in instructions(evex_forms(displacement=1)):
        if (instruction.opcode_map, instruction.opcode) in _WRONG_IN_CAPSTONE:
            continue
        for other in disassembler.disasm(instruction.code, 0, 1):
            memory = [o.mem for o in other.operands if o.type == capstone.CS_OP_MEM]
            if memory and other.size == instruction.length:
                compared += 1
                assert operand_of(instruction).displacement == memory[0].disp, other
    assert compared > 1000


def _forms_in_libraries(names: list[str], limit: int) -> list[bytes]:
    """One instruction of each legacy or VEX encoding that libraries contain."""
    from pydbi.x86.scanner import scan_block

    found: dict[object, bytes] = {}
    for path in libraries():
        if not path.name.startswith(tuple(names)):
            continue
        for _, code in executable_sections(path):
            at = 0
            while at < min(len(code) - 64, limit):
                starts, _, end, _ = scan_block(code[at : at + 4096], 1024)
                for start, stop in zip(starts, [*starts[1:], end], strict=True):
                    instruction = scan(code, at + start)
                    if instruction.encoding == EVEX or instruction.flow:
                        continue
                    modrm = instruction.modrm
                    form = modrm if modrm is None or modrm >= 0xC0 else modrm & 0x38
                    head = code[at + start : at + start + instruction.opcode_offset + 1]
                    if instruction.encoding == LEGACY:
                        rex = instruction.rex & 8
                        head = instruction.prefixes + bytes((rex, instruction.opcode_map))
                    found.setdefault((head, instruction.opcode, form), code[at + start : at + stop])
                at += end or 1
    return list(found.values())


def _sizes_by_pyqbdi(codes: list[bytes]) -> None:
    import ctypes
    import mmap

    import pyqbdi

    memory = mmap.mmap(-1, 64 * len(codes) + 4096, prot=7)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    vm = pyqbdi.VM()
    vm.addInstrumentedRange(base, base + len(memory))
    for number, code in enumerate(codes):
        memory[64 * number : 64 * number + len(code) + 1] = code + b"\xc3"
        vm.precacheBasicBlock(base + 64 * number)
        analysis = vm.getCachedInstAnalysis(base + 64 * number)
        if analysis is not None:
            print(number, analysis.loadSize, analysis.storeSize, analysis.mnemonic)
        if number % 500 == 0:
            vm.clearAllCache()


def test_sizes_are_pyqbdis(run_in_child: Callable[..., str]) -> None:
    """The largest read and write of an instruction are PyQBDI's loadSize and storeSize.

    Without EVEX encodings, of which PyQBDI knows nothing.
    """
    pytest.importorskip("pyqbdi")
    names = ["libc.so", "libc-", "libm"] + (["libcrypto", "libstdc++"] if THOROUGH else [])
    codes = _forms_in_libraries(names, 1 << 30 if THOROUGH else 1 << 19)
    compared = 0
    for line in run_in_child(_sizes_by_pyqbdi, codes).splitlines():
        number, load, store, mnemonic = line.split()
        code = codes[int(number)]
        sizes = [0, 0]
        for access in accesses_of(code):
            sizes[access.is_write] = max(sizes[access.is_write], access.size)
        assert sizes == [int(load), int(store)], (mnemonic, code.hex())
        compared += 1
    assert compared > 1000
