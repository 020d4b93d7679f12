"""Runs one case in this process: ``python -m tests.libraries.run_case CASE MODE FOLDER``."""

from __future__ import annotations

import faulthandler
import sys

from tests.libraries import cases_compiled, cases_system
from tests.libraries.guest import Guest

CASES = {case.__name__: case for case in (*cases_system.CASES, *cases_compiled.CASES)}
LIBRARY_OF = {
    "zlib_round_trip": "libz.so.1",
    "zlib_checksums": "libz.so.1",
    "sha256_and_sha512": "libcrypto.so.3",
    "aes": "libcrypto.so.3",
    "sqlite": "libsqlite3.so.0",
}
"""What a case needs beyond the C library and a compiler."""


def main() -> None:
    """Run the case; an assertion that fails comes out as its traceback."""
    faulthandler.enable()
    name, mode, folder = sys.argv[1:]
    CASES[name](Guest(mode, folder))


if __name__ == "__main__":
    main()
