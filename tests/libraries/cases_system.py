"""Libraries that every system has: zlib, libcrypto, libm, sqlite3, libc."""

from __future__ import annotations

import ctypes
import math
import random
from typing import Any

from tests.libraries.guest import Guest, double_bytes

_TEXT = b"the quick brown fox jumps over the lazy dog; " * 300 + bytes(range(256)) * 20


def zlib_round_trip(guest: Guest) -> None:
    """compress2 at all levels gives zlib's own bytes, and uncompress the text again."""
    zlib = guest.library("libz.so.1")
    text = random.Random(1).randbytes(2000) + _TEXT
    levels = range(1, 10) if guest.mode == "plain" else (1, 6)
    for level in levels:
        native, translated = (ctypes.create_string_buffer(len(text) + 1000) for _ in range(2))
        sizes = [ctypes.c_ulong(len(native)) for _ in range(2)]
        zlib.compress2(native, ctypes.byref(sizes[0]), text, ctypes.c_ulong(len(text)), level)
        size = (ctypes.c_ulong * 1)(len(native))
        assert guest.call(zlib.compress2, translated, size, text, len(text), level) == 0
        assert size[0] == sizes[0].value
        assert translated.raw == native.raw
        back, back_size = ctypes.create_string_buffer(len(text)), (ctypes.c_ulong * 1)(len(text))
        assert guest.call(zlib.uncompress, back, back_size, translated, size[0]) == 0
        assert back.raw == text


def zlib_checksums(guest: Guest) -> None:
    """crc32 and adler32 of texts of many lengths and alignments."""
    import zlib as python_zlib

    zlib = guest.library("libz.so.1")
    for length in (0, 1, 3, 8, 63, 64, 65, 1000, 5552, 5553, 16000):
        text = random.Random(length).randbytes(length)
        assert guest.call(zlib.crc32, 0, text, length) == python_zlib.crc32(text)
        assert guest.call(zlib.adler32, 1, text, length) == python_zlib.adler32(text)


def sha256_and_sha512(guest: Guest) -> None:
    """SHA256() and SHA512() of libcrypto, which choose their code by CPUID."""
    import hashlib

    crypto = guest.library("libcrypto.so.3")
    for length in (0, 1, 55, 56, 64, 119, 1000, 4096):
        text = random.Random(length).randbytes(length)
        for name in ("sha1", "sha256", "sha512"):
            expected = hashlib.new(name, text).digest()
            digest = ctypes.create_string_buffer(len(expected))
            guest.call(getattr(crypto, name.upper()), text, length, digest)
            assert digest.raw == expected, (name, length)


def aes(guest: Guest) -> None:
    """AES by EVP (CBC, CTR, GCM) and by the old block functions."""
    crypto = guest.library("libcrypto.so.3")
    key, start, text = b"k" * 32, b"i" * 16, random.Random(5).randbytes(1000)
    for name in ("EVP_aes_256_cbc", "EVP_aes_128_ctr", "EVP_aes_256_gcm"):
        results = []
        for natively in (True, False):

            def call(function: Any, *arguments: Any, natively: bool = natively) -> int:
                if not natively:
                    return guest.call(function, *arguments)
                function.restype = ctypes.c_void_p
                return int(function(*(_pointer(value) for value in arguments)) or 0)

            cipher = call(getattr(crypto, name))
            context = call(crypto.EVP_CIPHER_CTX_new)
            output, size = ctypes.create_string_buffer(2000), (ctypes.c_int * 2)()
            assert call(crypto.EVP_EncryptInit_ex, context, cipher, None, key, start) & 1
            assert call(crypto.EVP_EncryptUpdate, context, output, size, text, len(text)) & 1
            rest = ctypes.addressof(output) + size[0]
            assert call(crypto.EVP_EncryptFinal_ex, context, rest, ctypes.addressof(size) + 4) & 1
            call(crypto.EVP_CIPHER_CTX_free, context)
            results.append((output.raw, size[:]))
        assert results[0] == results[1], name
        assert results[0][0][: len(text)] != text
    schedule = ctypes.create_string_buffer(256)
    block, native = ctypes.create_string_buffer(16), ctypes.create_string_buffer(16)
    guest.call(crypto.AES_set_encrypt_key, key, 256, schedule)
    guest.call(crypto.AES_encrypt, text[:16], block, schedule)
    crypto.AES_encrypt(text[:16], native, schedule)
    assert block.raw == native.raw


def _pointer(value: Any) -> Any:
    return ctypes.c_void_p(value) if isinstance(value, int) and value > 1 << 31 else value


_FUNCTIONS = (
    "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp exp2 expm1 log log2 log10 "
    "log1p sqrt cbrt erf erfc tgamma lgamma j0 y1 floor ceil trunc round rint nearbyint fabs logb"
)
_TWO_ARGUMENTS = "pow atan2 fmod remainder hypot copysign nextafter fdim fmax fmin"


def libm(guest: Guest) -> None:
    """libm's functions over many values, bit by bit, NaN and infinities too."""
    library = guest.library("libm.so.6")
    rng = random.Random(3)
    values = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-320, 1e308, math.inf, -math.inf, math.nan, math.pi]
    count = 60 if guest.mode == "plain" else 6
    values += [rng.uniform(-30, 30) for _ in range(count)]
    values += [rng.uniform(-1, 1) * 10.0 ** rng.randrange(-300, 300) for _ in range(count)]
    for name in _FUNCTIONS.split():
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
        for value in values:
            expected = double_bytes(function(value))
            assert guest.call_for_double(function, value) == expected, (name, value)
    for name in _TWO_ARGUMENTS.split():
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * 2
        for value, other in zip(values, reversed(values), strict=True):
            expected = double_bytes(function(value, other))
            assert guest.call_for_double(function, value, other) == expected, (name, value, other)


_SCRIPT = """
CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, age INT, score REAL);
CREATE TABLE visit(person INT, place TEXT, day INT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {people})
  INSERT INTO person SELECT i, 'name' || (i * 7919 % 1000), i * 31 % 90, i / 7.0 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {visits})
  INSERT INTO visit SELECT i * 13 % {people}, 'place' || (i % 17), i * 7 % 365 FROM n;
COMMIT;
CREATE INDEX by_age ON person(age, name);
CREATE INDEX by_person ON visit(person);
UPDATE person SET score = score * 2 WHERE age BETWEEN 20 AND 40;
DELETE FROM visit WHERE day % 11 = 0;
CREATE TABLE result(line TEXT);
INSERT INTO result SELECT printf('%d %s %.6f', age, max(name), avg(score))
  FROM person GROUP BY age HAVING count(*) > 2 ORDER BY age;
INSERT INTO result SELECT p.name || v.place || count(*)
  FROM person p JOIN visit v ON v.person = p.id
  WHERE p.age > 50 GROUP BY p.name, v.place ORDER BY 1 LIMIT 200;
INSERT INTO result SELECT group_concat(place || day, ',') FROM
  (SELECT place, day, row_number() OVER (PARTITION BY place ORDER BY day, person) r FROM visit)
  WHERE r < 4;
INSERT INTO result WITH RECURSIVE f(a, b) AS (SELECT 0, 1 UNION ALL SELECT b, a + b FROM f LIMIT 60)
  SELECT group_concat(a) FROM f;
INSERT INTO result SELECT hex(name) || upper(name) || substr(name, 3) || round(score, 2)
  FROM person WHERE name LIKE '%9_' OR name GLOB 'name1[0-3]*' ORDER BY length(name), id;
PRAGMA integrity_check;
"""


def sqlite(guest: Guest) -> None:
    """A SQL script in memory: recursive queries, joins, indexes, aggregates, windows, deletes."""
    library = guest.library("libsqlite3.so.0")
    people, visits = (3000, 6000) if guest.mode == "plain" else (60, 100)
    script = _SCRIPT.format(people=people, visits=visits)
    library.sqlite3_errmsg.restype = library.sqlite3_column_text.restype = ctypes.c_char_p
    lines = []
    for natively in (True, False):
        database, statement = (ctypes.c_void_p * 1)(), (ctypes.c_void_p * 1)()

        def call(function: Any, *arguments: Any, natively: bool = natively) -> int:
            if not natively:
                return guest.call(function, *arguments)
            function.restype = ctypes.c_void_p
            return int(function(*(_pointer(value) for value in arguments)) or 0)

        assert call(library.sqlite3_open, b":memory:", database) == 0
        handle = database[0]
        done = call(library.sqlite3_exec, handle, script.encode(), None, None, None)
        assert done == 0, library.sqlite3_errmsg(ctypes.c_void_p(handle))
        query = b"SELECT line FROM result"
        assert call(library.sqlite3_prepare_v2, handle, query, -1, statement, None) == 0
        found = []
        while call(library.sqlite3_step, statement[0]) == 100:  # SQLITE_ROW
            address = call(library.sqlite3_column_text, statement[0], 0)
            found.append(ctypes.string_at(address))
        assert call(library.sqlite3_finalize, statement[0]) == 0
        assert call(library.sqlite3_close, handle) == 0
        lines.append(found)
    assert len(lines[0]) > 10
    assert lines[0] == lines[1]


def c_strings(guest: Guest) -> None:
    """String functions of libc (chosen by IFUNC: AVX2 or EVEX) and number conversion."""
    libc = guest.library("libc.so.6")
    text = bytes(random.Random(8).choices(range(1, 255), k=500)) + b"needle" + b"x" * 70
    buffer = ctypes.create_string_buffer(text)
    base = ctypes.addressof(buffer)
    libc.strstr.restype = libc.memchr.restype = libc.strrchr.restype = ctypes.c_void_p
    for offset in (*range(0, 40, 3), 450, 500):
        assert guest.call(libc.strlen, base + offset) == len(text) - offset
        assert guest.call(libc.strstr, base + offset, b"needle") == base + text.index(b"needle")
        expected = libc.memchr(ctypes.c_void_p(base + offset), 0x78, ctypes.c_size_t(600))
        assert guest.call(libc.memchr, base + offset, 0x78, 600) == expected
        assert guest.call(libc.strrchr, base, text[offset]) == base + text.rindex(text[offset])
        copy = ctypes.create_string_buffer(1000)
        guest.call(libc.memcpy, copy, base + offset, 500 - offset)
        assert copy.raw[: 500 - offset] == text[offset:500]
        guest.call(libc.memset, copy, 0x41, 300 + offset)
        assert copy.raw[: 300 + offset] == b"A" * (300 + offset)
    for number in (b"0", b"-123456789012", b"0x7fff", b"0755", b"99999999999999999999", b"12ab"):
        libc.strtol.restype = ctypes.c_long
        assert ctypes.c_long(guest.call(libc.strtol, number, None, 0)).value == libc.strtol(
            number, None, 0
        )
    libc.strtod.restype = ctypes.c_double
    for number in (b"0.1", b"-1e308", b"1e-320", b"3.14159265358979323846", b"inf", b"0x1.8p3"):
        expected_bytes = double_bytes(libc.strtod(number, None))
        assert guest.call_for_double(libc.strtod, number, None) == expected_bytes, number


def formatting(guest: Guest) -> None:
    """snprintf called with a variable argument list: integers, text and doubles, counted in al."""
    libc = guest.library("libc.so.6")
    for value in (0.0, 1.5, -2.25e-7, 6.02214076e23, 1e300, math.inf):
        for number in (0, -1, 255, 1 << 31):
            native, translated = (ctypes.create_string_buffer(300) for _ in range(2))
            form = b"%d|%5ld|%x|%s|%.12g|%e|%10.3f|%a"
            word = ctypes.c_long(number)
            size = libc.snprintf(native, ctypes.c_size_t(300), form, word, word, word, b"text",
                                 *(ctypes.c_double(value + at) for at in range(4)))  # fmt: skip
            # The seventh and eighth word go on the stack.
            arguments = (translated, 300, form, number, number, number, b"text")
            floats = tuple(value + at for at in range(4))
            assert guest.signed(libc.snprintf, *arguments, *floats) == size
            assert translated.raw == native.raw


CASES = (
    zlib_round_trip, zlib_checksums, sha256_and_sha512, aes, libm, sqlite, c_strings, formatting,
)  # fmt: skip
