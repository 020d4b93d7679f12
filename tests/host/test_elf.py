"""Function symbols."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pydbi.host.elf import ElfFile, Symbolizer
from pydbi.host.libc import AT_SYSINFO_EHDR, libc

SOURCE = """
static int twice(int x) { return 2 * x; }
int (*choose(void))(int) { return twice; }
int exported(int x) __attribute__((ifunc("choose")));
__attribute__((visibility("default"))) int plain(int x) { return twice(x) + 1; }
extern __typeof__(plain) __plain_alias __attribute__((alias("plain")));
"""


def build(directory: Path, *options: str) -> Path:
    """Compile the example library."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    source, library = directory / "example.c", directory / "libexample.so.1"
    source.write_text(SOURCE, encoding="utf-8")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-fno-inline", *options, "-o", library, source],
        check=True,
    )
    return library


def address_of(function: object) -> int:
    """Return the address of a ctypes function."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def test_functions_of_a_file(tmp_path: Path) -> None:
    """Static functions, exported ones and IFUNC resolvers are found, in order of addresses."""
    elf = ElfFile(build(tmp_path).read_bytes())
    symbols = list(elf)
    assert {"twice", "choose", "exported", "plain", "__plain_alias"} <= {s.name for s in symbols}
    assert [s.value for s in symbols] == sorted(s.value for s in symbols)


def test_stripped_file_has_its_exported_functions(tmp_path: Path) -> None:
    """Without a symbol table the dynamic symbols remain."""
    names = {symbol.name for symbol in ElfFile(build(tmp_path, "-s").read_bytes())}
    assert {"choose", "exported", "plain"} <= names
    assert "twice" not in names


def test_lookup_knows_the_users_name_and_the_end(tmp_path: Path) -> None:
    """Of two names the plain one is given, and behind a function's end there is none."""
    elf = ElfFile(build(tmp_path).read_bytes())
    plain = next(symbol for symbol in elf if symbol.name == "plain")
    assert elf.function_at(plain.value) == plain
    assert elf.function_at(plain.value + plain.size - 1) == plain
    after = elf.function_at(plain.value + plain.size)
    assert after is None or after.name != "plain"
    assert elf.function_at(0) is None


def test_addresses_of_a_loaded_library(tmp_path: Path) -> None:
    """An address of this process becomes the file's name, its function and the two offsets."""
    loaded = ctypes.CDLL(str(build(tmp_path)))
    plain, exported = address_of(loaded.plain), address_of(loaded.exported)
    symbolizer = Symbolizer()
    location = symbolizer.locate(plain + 2)
    assert location.module == "libexample.so.1"
    assert (location.symbol, location.symbol_offset) == ("plain", 2)
    # The dynamic linker has already resolved the IFUNC.
    assert symbolizer.locate(exported).symbol == "twice"
    distance = symbolizer.locate(exported).module_offset - (location.module_offset - 2)
    assert distance == exported - plain


def test_addresses_without_a_file() -> None:
    """The vdso's functions have names; anonymous and unmapped memory has none."""
    symbolizer = Symbolizer()
    vdso = libc.getauxval(AT_SYSINFO_EHDR)
    if vdso:
        assert "vdso" in str(symbolizer.locate(vdso).module)
        assert symbolizer.locate(vdso).module_offset == 0
    buffer = ctypes.create_string_buffer(1 << 20)
    assert symbolizer.locate(ctypes.addressof(buffer)).module is None
    assert symbolizer.locate(16).module is None


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ" * 40, b"\x7fELF\x02\x01" + b"\xff" * 200])
def test_damaged_file_is_refused(data: bytes) -> None:
    """What is no ELF file, or a damaged one, raises ValueError."""
    with pytest.raises(ValueError, match="ELF"):
        ElfFile(data)


def test_large_library_is_quick() -> None:
    """Reading the symbols of a large library takes less than 100 ms."""
    try:
        ctypes.CDLL("libcrypto.so.3")
    except OSError:
        pytest.skip("needs libcrypto.so.3")
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    path = next(line.split()[5] for line in lines if "libcrypto.so.3" in line)
    data = Path(path).read_bytes()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        ElfFile(data)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1
