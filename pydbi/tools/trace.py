"""``python -m pydbi trace``: call a function of a shared library and print what it executes.

One line for each executed instruction, in columns: module and offset, function and offset (``-``
where the file has no symbol), and the instruction. Two lines follow: how many instructions there
were, and the result.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import struct
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple, NoReturn

import pydbi

_STACK_SIZE = 8 << 20

# System V ABI for x86-64, 3.2.3: this many floating-point arguments are passed in registers.
_FLOAT_REGISTERS = 8

_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)")
_FLOAT = re.compile(
    r"([+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?[0-9]+[eE][+-]?[0-9]+)(f?)"
)

_ARGUMENT_HELP = """\
arguments:
  12, -3, 0x10   an integer (64 bits)
  1.5, 1e9       a double; 1.5f is a float
  s:text, text   the address of a string; s: is only needed where it would be taken for
                 something else: s:12
  Words that begin with - go behind a --, decimal numbers excepted.

result types:
  auto           an unsigned 64-bit integer, and the text at it if it is the address of one
  int, uint      32 bits, signed and unsigned
  long, ulong    64 bits, signed and unsigned
  float, double  a floating-point number
  string         the text whose address it is
  none           the function returns nothing
"""


class UsageError(Exception):
    """The command is wrong: an argument, a library or a function that does not exist."""


class Call(NamedTuple):
    """A function's arguments, sorted as the calling convention wants them."""

    integers: list[int]
    floats: list[bytes]
    """The low bytes of xmm0, xmm1, ..."""
    strings: list[ctypes.Array[ctypes.c_char]]
    """The memory that some of the integers point to, which must live as long as the call."""


def parse_arguments(words: Sequence[str]) -> Call:
    """Make a function's arguments from what was written on the command line.

    Raises:
        UsageError: an integer has more than 64 bits, or there are more floating-point arguments
            than registers for them.
    """
    call = Call([], [], [])
    for word in words:
        floating = _FLOAT.fullmatch(word)
        if _INTEGER.fullmatch(word):
            number = int(word, 16 if "x" in word.lower() else 10)
            if not -(1 << 63) <= number < 1 << 64:
                raise UsageError(f"argument {word} does not fit into 64 bits")
            call.integers.append(number % (1 << 64))
        elif floating:
            digits, single = floating.groups()
            value = ctypes.c_float(float(digits)) if single else ctypes.c_double(float(digits))
            call.floats.append(bytes(value))
        else:
            buffer = ctypes.create_string_buffer(
                word.removeprefix("s:").encode(errors="surrogateescape")
            )
            call.strings.append(buffer)
            call.integers.append(ctypes.addressof(buffer))
    if len(call.floats) > _FLOAT_REGISTERS:
        raise UsageError(f"more than {_FLOAT_REGISTERS} floating-point arguments")
    return call


def find_function(library: str, function: str) -> int:
    """Load a shared library and return the address of one of its functions.

    Raises:
        UsageError: there is no such library or function, or it is not code.
    """
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        raise UsageError(f"cannot load {library}: {error}") from error
    try:
        symbol = getattr(loaded, function)
    except AttributeError:
        raise UsageError(f"{library} has no function {function}") from None
    address = ctypes.cast(symbol, ctypes.c_void_p).value or 0
    for region in pydbi.getCurrentProcessMaps():
        if address in region.range and region.permission & pydbi.PF_EXEC:
            return address
    raise UsageError(f"{function} of {library} is not a function")


class Tracer:
    """Writes a line for each executed instruction, in large pieces."""

    _LINES_AT_ONCE = 4096

    def __init__(self, output: BinaryIO) -> None:
        self.count = 0
        self._output = output
        self._known: dict[int, bytes] = {}
        self._pending: list[bytes] = []
        self._maps: list[pydbi.MemoryMap] = []

    def on_instruction(
        self, vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object
    ) -> pydbi.VMAction:
        """Note the instruction that is about to be executed."""
        address = gpr.rip
        line = self._known.get(address)
        if line is None:
            line = self._known[address] = self._describe(vm)
        self._pending.append(line)
        if len(self._pending) >= self._LINES_AT_ONCE:
            self.flush()
        return pydbi.CONTINUE

    def flush(self) -> None:
        """Write what was noted so far."""
        lines, self._pending = self._pending, []
        self.count += len(lines)
        self._output.write(b"".join(lines))

    def _describe(self, vm: pydbi.VM) -> bytes:
        analysis = vm.getInstAnalysis(
            pydbi.ANALYSIS_INSTRUCTION | pydbi.ANALYSIS_DISASSEMBLY | pydbi.ANALYSIS_SYMBOL
        )
        address = analysis.address
        place, function = f"{address:#x}", "-"
        if analysis.moduleName:
            place = f"{analysis.moduleName}+{address - self._base(address):#x}"
        if analysis.symbolName:
            function = f"{analysis.symbolName}+{analysis.symbolOffset:#x}"
        text = analysis.disassembly.strip().replace("\t", " ")
        return f"{place:<27} {function:<27} {text}\n".encode(errors="replace")

    def _base(self, address: int) -> int:
        """Return where the file begins that is mapped at *address*."""
        if not any(address in region.range for region in self._maps):
            self._maps = pydbi.getCurrentProcessMaps(True)
        base, name = 0, ""
        for region in self._maps:
            if region.name != name:
                base, name = region.range.start, region.name
            if address in region.range:
                break
        return base


def _text_at(address: int, limit: int = 4096) -> str | None:
    """Return the text at *address* as a quoted string, None if nothing is readable there."""
    data = b""
    while b"\0" not in data and len(data) < limit:
        # Up to the next multiple of 64, so that no read crosses into a page that is not there.
        size = 64 - (address + len(data)) % 64
        try:
            data += pydbi.readMemory(address + len(data), size)
        except (pydbi.GuestMemoryError, TypeError):
            return None
    text, _, _ = data.partition(b"\0")
    return repr(text.decode("utf-8", "backslashreplace"))


def _auto(rax: int, xmm0: bytes) -> str:
    text = _text_at(rax) if rax >= 0x10000 else None
    suffix = f" -> {text}" if text and text[1:-1].isprintable() and "\\" not in text else ""
    return f"{rax} ({rax:#x}){suffix}"


def _string(rax: int, xmm0: bytes) -> str:
    return (_text_at(rax) or f"{rax:#x}, where nothing can be read") if rax else "NULL"


# Result type -> how to print it from rax and xmm0.
_RESULTS: dict[str, Callable[[int, bytes], str]] = {
    "auto": _auto,
    "int": lambda rax, xmm0: str(ctypes.c_int32(rax).value),
    "uint": lambda rax, xmm0: str(ctypes.c_uint32(rax).value),
    "long": lambda rax, xmm0: str(ctypes.c_int64(rax).value),
    "ulong": lambda rax, xmm0: str(rax),
    "float": lambda rax, xmm0: f"{struct.unpack_from('<f', xmm0)[0]:.9g}",
    "double": lambda rax, xmm0: repr(struct.unpack_from("<d", xmm0)[0]),
    "string": _string,
    "none": lambda rax, xmm0: "none",
}


class _Parser(argparse.ArgumentParser):
    """An argument parser that leaves the reporting of mistakes to `main`."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (--help tells more)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m pydbi trace",
        description="Call a function of a shared library and print each instruction it executes.",
        epilog=_ARGUMENT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("library", help="path or soname, for instance libz.so.1")
    parser.add_argument("function", help="name of an exported function")
    parser.add_argument("arguments", nargs="*", default=[], metavar="argument", help="see below")
    parser.add_argument("--count", action="store_true", help="only count the instructions")
    parser.add_argument(
        "--result", choices=list(_RESULTS), default="auto", help="type of the result (see below)"
    )
    parser.add_argument("--all", action="store_true", help="print the instructions of all modules")
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="NAME",
        help="print this module's instructions too (file name; can be repeated)",
    )
    return parser


def _instrument(vm: pydbi.VM, address: int, options: argparse.Namespace) -> None:
    """Choose the modules whose instructions are shown."""
    if options.all:
        vm.instrumentAllExecutableMaps()
        return
    vm.addInstrumentedModuleFromAddr(address)
    for name in options.module:
        # libz.so.1 is the name to load libz.so.1.2.13 by.
        versions = [module for module in pydbi.getModuleNames() if module.startswith(f"{name}.")]
        if not any(vm.addInstrumentedModule(module) for module in (name, *versions)):
            raise UsageError(f"no module {name} is loaded; a file name is wanted, as libc.so.6")


def _run(options: argparse.Namespace, output: BinaryIO) -> None:
    """Load, call, and print.

    Raises:
        UsageError: the command is wrong; nothing was executed.
    """
    call = parse_arguments(options.arguments)
    address = find_function(options.library, options.function)
    vm = pydbi.VM()
    _instrument(vm, address, options)
    gpr = vm.getGPRState()
    stack = pydbi.allocateVirtualStack(gpr, _STACK_SIZE)
    if stack is None:
        raise MemoryError(f"no memory for a stack of {_STACK_SIZE} bytes")
    gpr.rax = len(call.floats)  # what a variadic function expects in al
    vm.setGPRState(gpr)
    fpr = vm.getFPRState()
    for number, value in enumerate(call.floats):
        setattr(fpr, f"xmm{number}", value)
    vm.setFPRState(fpr)

    tracer = Tracer(output)
    counter = [0]

    def on_counted(
        vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, counter: list[int]
    ) -> pydbi.VMAction:
        counter[0] += 1
        return pydbi.CONTINUE

    if options.count:
        vm.addCodeCB(pydbi.PREINST, on_counted, counter)
    else:
        vm.addCodeCB(pydbi.PREINST, tracer.on_instruction, None)
    try:
        complete, rax = vm.call(address, call.integers)
    finally:
        tracer.flush()
        output.flush()
    xmm0 = bytes(vm.getFPRState().xmm0)
    result = _RESULTS[options.result](rax, xmm0) if complete else "none, it was stopped"
    output.write(f"instructions: {counter[0] or tracer.count}\n".encode())
    output.write(f"result: {result}\n".encode())
    pydbi.alignedFree(stack)


def main(arguments: Sequence[str]) -> int:
    """Run the command with *arguments* and return the exit status.

    A wrong command is one line on standard error and exit status 2.
    """
    try:
        _run(_parser().parse_intermixed_args(arguments), sys.stdout.buffer)
    except UsageError as error:
        print(f"pydbi trace: error: {error}", file=sys.stderr)
        return 2
    return 0
