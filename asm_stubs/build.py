"""Assemble the stubs into the blob that pydbi ships: ``python asm_stubs/build.py``.

Needs GNU as, ld and nm. Writes ``pydbi/jit/stubs_x86_64.bin`` (position-independent code) and
``pydbi/jit/stubs_x86_64.symbols`` (a line for each stub: its name, and its offset in it). The
constants that the sources share with Python come from :mod:`pydbi.jit.context`, so they cannot
drift apart.
"""

from __future__ import annotations

import runpy
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "asm_stubs" / "x86_64"
PACKAGE = ROOT / "pydbi" / "jit"
BLOB = PACKAGE / "stubs_x86_64.bin"
SYMBOLS = PACKAGE / "stubs_x86_64.symbols"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout


def assemble() -> tuple[bytes, dict[str, int]]:
    """Return the blob and the offset of every label in it."""
    # The description alone: importing the package could need the blob that is being made.
    assembler_symbols = runpy.run_path(str(PACKAGE / "context.py"))["assembler_symbols"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        constants = assembler_symbols().items()
        lines = "".join(f".set {name}, {value}\n" for name, value in constants)
        (work / "context.inc").write_text(lines)
        objects = []
        for source in sorted(SOURCES.glob("*.S")):
            target = work / (source.stem + ".o")
            include = ("-I", str(work), "-I", str(SOURCES))
            _run("as", "--64", *include, "-o", str(target), str(source))
            objects.append(str(target))
        linked = str(work / "linked")
        # One flat image at address 0: nothing in it may need relocation.
        script = work / "flat.ld"
        script.write_text("SECTIONS { . = 0; .all : { *(.text) } /DISCARD/ : { *(*) } }")
        _run("ld", "-T", str(script), "-o", linked, *objects)
        binary = work / "flat.bin"
        _run("objcopy", "-O", "binary", "-j", ".all", linked, str(binary))
        symbols = {}
        for line in _run("nm", linked).splitlines():
            value, kind, name = line.split()
            if kind in "tT":
                symbols[name] = int(value, 16)
        return binary.read_bytes(), dict(
            sorted(symbols.items(), key=lambda item: (item[1], item[0]))
        )


def main() -> None:
    """Rebuild both files."""
    blob, symbols = assemble()
    BLOB.write_bytes(blob)
    SYMBOLS.write_text("".join(f"{name} {offset}\n" for name, offset in symbols.items()))
    print(f"{BLOB.name}: {len(blob)} bytes, {len(symbols)} symbols")


if __name__ == "__main__":
    main()
