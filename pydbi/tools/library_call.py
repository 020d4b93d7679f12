"""A function of a shared library as a command's target: its arguments, its call, its result."""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable, Sequence

import pydbi
from pydbi.tools.options import UsageError
from pydbi.tuples import NamedTuple

_STACK_SIZE = 8 << 20

# System V ABI for x86-64, 3.2.3: this many floating-point arguments are passed in registers.
_FLOAT_REGISTERS = 8

_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)")
_FLOAT = re.compile(
    r"([+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?[0-9]+[eE][+-]?[0-9]+)(f?)"
)

ARGUMENT_HELP = """\
arguments of a library's function:
  12, -3, 0x10   an integer (64 bits)
  1.5, 1e9       a double; 1.5f is a float
  s:text, text   the address of a string; s: is only needed where it would be taken for
                 something else: s:12
  Words that begin with - go behind a --, decimal numbers excepted.

result types:
  auto           an unsigned 64-bit integer, and the text at it if it is the address of one;
                 as a double, too, if the function was given one
  int, uint      32 bits, signed and unsigned
  long, ulong    64 bits, signed and unsigned
  float, double  a floating-point number
  string         the text whose address it is
  none           the function returns nothing
"""


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
        reason = str(error).removeprefix(f"{library}: ")
        hint = "; a program stands behind --" if "executable" in reason else ""
        raise UsageError(f"cannot load {library}: {reason}{hint}") from error
    try:
        symbol = getattr(loaded, function)
    except AttributeError:
        raise UsageError(f"{library} has no function {function}") from None
    address = ctypes.cast(symbol, ctypes.c_void_p).value or 0
    for region in pydbi.getCurrentProcessMaps():
        if address in region.range and region.permission & pydbi.PF_EXEC:
            return address
    raise UsageError(f"{function} of {library} is not a function")


def read_text(address: int, limit: int = 4096) -> bytes | None:
    """Return the text at *address* up to its final zero; None if nothing is readable there."""
    data = b""
    while b"\0" not in data and len(data) < limit:
        # Up to the next multiple of 64, so that no read crosses into a page that is not there.
        size = 64 - (address + len(data)) % 64
        try:
            data += pydbi.readMemory(address + len(data), size)
        except (pydbi.GuestMemoryError, TypeError):
            return None
    return data.partition(b"\0")[0]


def _text_at(address: int) -> str | None:
    """Return the text at *address* as a quoted string; None if nothing is readable there."""
    text = read_text(address)
    return None if text is None else repr(text.decode("utf-8", "backslashreplace"))


def _auto(rax: int, xmm0: bytes) -> str:
    text = _text_at(rax) if rax >= 0x10000 else None
    suffix = f" -> {text}" if text and text[1:-1].isprintable() and "\\" not in text else ""
    return f"{rax} ({rax:#x}){suffix}"


def _string(rax: int, xmm0: bytes) -> str:
    return (_text_at(rax) or f"{rax:#x}, where nothing can be read") if rax else "NULL"


# Result type -> how to print it from rax and xmm0.
RESULTS: dict[str, Callable[[int, bytes], str]] = {
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


class FunctionTarget:
    """A function that is called once.

    Args:
        words: library, function, arguments; as on the command line.
        result: how to print what it returns: a key of `RESULTS`.

    Attributes:
        address: the function's.

    Raises:
        UsageError: there is no such function, or an argument is wrong.
    """

    def __init__(self, words: Sequence[str], result: str) -> None:
        if len(words) < 2:
            alone = f"{words[0]} is no command: " if words else ""
            raise UsageError(f"{alone}a library and a function are due, or -- and a program")
        library, function, *arguments = words
        self._call = parse_arguments(arguments)
        self._result = result
        self.address = find_function(library, function)

    def instrument(self, vm: pydbi.VM, modules: Sequence[str], everything: bool) -> None:
        """Choose the modules whose instructions are seen.

        Args:
            modules: names of loaded files, beside the function's own.
            everything: all modules instead.

        Raises:
            UsageError: one is not loaded.
        """
        if everything:
            vm.instrumentAllExecutableMaps()
            return
        vm.addInstrumentedModuleFromAddr(self.address)
        for name in modules:
            # libz.so.1 is the name to load libz.so.1.2.13 by.
            loaded = pydbi.getModuleNames()
            versions = [module for module in loaded if module.startswith(f"{name}.")]
            if not any(vm.addInstrumentedModule(module) for module in (name, *versions)):
                raise UsageError(f"no module {name} is loaded; a file name is wanted, as libc.so.6")

    def run(self, vm: pydbi.VM) -> str:
        """Call the function under *vm*, and return its result as text."""
        call = self._call
        gpr = vm.getGPRState()
        stack = pydbi.allocateVirtualStack(gpr, _STACK_SIZE)
        if stack is None:
            raise MemoryError(f"no memory for a stack of {_STACK_SIZE} bytes")
        try:
            gpr.rax = len(call.floats)  # what a variadic function expects in al
            fpr = vm.getFPRState()
            for number, value in enumerate(call.floats):
                setattr(fpr, f"xmm{number}", value)
            complete, rax = vm.call(self.address, call.integers)
            xmm0 = bytes(fpr.xmm0)
        finally:
            pydbi.alignedFree(stack)
        if not complete:
            return "none, it was stopped"
        text = RESULTS[self._result](rax, xmm0)
        if self._result == "auto" and call.floats:
            text += f", as a double {RESULTS['double'](rax, xmm0)}"
        return text
