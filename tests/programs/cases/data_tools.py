"""Filters, archives, compression, databases, cryptography."""

from __future__ import annotations

from tests.programs.cases.inputs import LONG, TEXT, TREE, noise
from tests.programs.harness import Case

_TEXT = {"text": TEXT}
_AWK = """
{ sum[$2] += $1; lines++ }
END { for (k in sum) printf "%s %d %.3f\\n", k, sum[k], sqrt(sum[k]) | "sort"; close("sort")
      print lines, length("abc"), substr("hello", 2, 3), toupper("x"), index("abc", "c")
      "echo from a command" | getline got; print got }
"""
_SQL = """
CREATE TABLE t(id INTEGER PRIMARY KEY, word TEXT, value REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
  INSERT INTO t SELECT i, printf('w%03d', i * 7 % 100), i * 1.5 FROM n;
CREATE INDEX by_word ON t(word);
SELECT word, count(*), sum(value) FROM t GROUP BY word ORDER BY 3 DESC LIMIT 5;
BEGIN; DELETE FROM t WHERE id % 3 = 0; ROLLBACK;
UPDATE t SET word = upper(word) WHERE id < 10;
SELECT id, word, row_number() OVER (ORDER BY value DESC) FROM t WHERE id < 4;
SELECT hex(word), date(0, 'unixepoch'), json_extract('{"a": [1, 2]}', '$.a[1]') FROM t LIMIT 1;
PRAGMA integrity_check;
"""
_TAR = "tar --sort=name --owner=0 --group=0 -cf made.tar tree"

CASES = (
    Case("mawk", ("mawk", _AWK, "text"), files=_TEXT),
    Case("gawk", ("gawk", _AWK, "text"), files=_TEXT),
    Case(
        "sed",
        ("sed", "-E", "-e", r"s/([a-z]+) ([a-z]+)/\2-\1/g; 3,7d; /alpha/y/abc/ABC/", "text"),
        files=_TEXT,
        module="libc.so.6",
    ),
    Case("sed-in-place", "sed -i.old s/a/A/ text", files=_TEXT),
    Case("grep", "grep -nE '(alpha|beta).*(mu|eta)$' text", files=_TEXT, module="grep"),
    Case(
        "grep-recursive",
        "grep -rc second tree/sub tree/two.txt",
        files={"tree/two.txt": "second\n", "tree/sub/one": "first\n"},
    ),
    Case("grep-perl", r"grep -oP '\d+(?= beta)' text", files=_TEXT),
    Case("grep-nothing", "grep nothing text", files=_TEXT, status=1),
    Case(
        "perl",
        (
            "perl",
            "-we",
            r"""
        use strict; use Time::HiRes; my %h; while (<>) { my @w = split; $h{$w[1]} += $w[0]; }
        print "$_ $h{$_}\n" for sort { $h{$b} <=> $h{$a} || $a cmp $b } keys %h;
        my $s = "x" x 50; $s =~ s/(x{7})/<$1>/g; print "$s\n";
        printf "%.10g %s\n", atan2(1, 1) * 4, join ",", map { $_ ** 2 } grep { $_ % 2 } 1 .. 15;
        eval { die { code => 42 } }; print "died with $@->{code}\n"; print `echo from a shell`;
        local $SIG{ALRM} = sub { print "alarm\n" };
        Time::HiRes::ualarm(50_000); select(undef, undef, undef, 5);
        my $pid = fork; if (!$pid) { exit 7 } waitpid $pid, 0; print $? >> 8, "\n";""",
        ),
        stdin=TEXT,
    ),
    Case(
        "perl-modules",
        "perl -MList::Util=sum -MPOSIX -MData::Dumper -MSocket -e 'print sum(1..9), floor(2.7)'",
    ),
    Case("tar-create", _TAR, files=TREE),
    Case(
        "tar-gzip",
        "tar --sort=name --owner=0 --group=0 -czf made.tar.gz tree",
        files=TREE,
        follow=True,
    ),
    Case(
        "tar-list",
        f"bash -c '{_TAR}; tar -tvf made.tar; tar -xf made.tar --one-top-level=out'",
        files=TREE,
        needs=("bash", "tar"),
        ignore={"stdout": "shows the owner's name"},
    ),
    Case("gzip", "gzip -9k text", files={"text": LONG}, module="gzip"),
    Case(
        "gunzip", "bash -c 'gzip -c text | gunzip | cmp - text'", files={"text": LONG}, follow=True
    ),
    Case("xz", "xz -k -T1 -3 text", files={"text": LONG}),
    Case("xz-threads", "xz -k -T4 --block-size=40KiB -1 text", files={"text": LONG}),
    Case(
        "xz-decompress",
        "bash -c 'xz text; xz -dc text.xz | wc'",
        files={"text": LONG},
        follow=True,
        needs=("xz",),
    ),
    Case("bzip2", "bzip2 -k noise", files={"noise": noise(50_000)}),
    Case("zstd", "zstd -q -T1 text -o text.zst", files={"text": LONG}),
    Case("zstd-threads", "zstd -q -T2 -5 text", files={"text": LONG}),
    Case("cmp", "cmp left right", files={"left": "abc\n", "right": "abd\n"}, status=1),
    Case(
        "diff",
        "diff -u --label a --label b left right",
        status=1,
        files={"left": TEXT, "right": TEXT.replace("alpha", "ALPHA")},
    ),
    Case(
        "patch",
        "patch -s left change",
        files={
            "left": "1\n2\n3\n",
            "change": "--- left\n+++ left\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n",
        },
    ),
    Case("sqlite3", "sqlite3 :memory:", stdin=_SQL, module="libsqlite3.so.0"),
    Case("sqlite3-file", "sqlite3 made.db", stdin=_SQL),
    Case("openssl-digest", "openssl dgst -sha512 -hmac key text", files=_TEXT),
    Case(
        "openssl-encrypt",
        "openssl enc -aes-256-cbc -K 00112233 -iv 445566 -in text -out secret",
        files=_TEXT,
    ),
    Case("openssl-prime", "openssl prime -checks 10 2305843009213693951"),
    Case(
        "openssl-key",
        "bash -c 'openssl genpkey -algorithm ed25519 -out key && openssl pkeyutl -sign"
        " -rawin -inkey key -in text -out signature && openssl pkey -in key -pubout -out public &&"
        " openssl pkeyutl -verify -rawin -pubin -inkey public -in text -sigfile signature'",
        files=_TEXT,
        follow=True,
        needs=("openssl",),
        ignore={"key": "is random", "public": "is random", "signature": "is random"},
    ),
    Case("curl-version", "curl --version"),
    Case("curl-file", "curl -s file:///proc/sys/kernel/ostype"),
    Case(
        "jq",
        "jq -c '.[] | select(.a > 1) | {b: (.a * 2), c: (.s | ascii_upcase)}'",
        stdin='[{"a": 1, "s": "x"}, {"a": 2, "s": "y"}, {"a": 3.5, "s": "z"}]',
    ),
    Case(
        "bc",
        "bc -l",
        stdin="scale=60; 4*a(1); 2^200; define f(n){if(n<2)return 1;return n*f(n-1)}\nf(40)\n",
    ),
    Case("dc", "dc -e '2 100 ^ p 7 % p'"),
    Case("m4", "m4", stdin="define(`twice', `$1 $1')twice(word) eval(6 * 7) esyscmd(echo shell)"),
    Case("file", "file -b text noise /proc/self/mounts", files={**_TEXT, "noise": noise(100)}),
    Case("iconv", "iconv -f UTF-8 -t UTF-16LE text", files={"text": "äöü €\n"}),
    Case(
        "vim",
        "vim -es -u NONE -i NONE -c %s/a/A/g -c 'write! copy' -c qa! text",
        files=_TEXT,
    ),
    Case("b2sum", "b2sum noise", files={"noise": noise(100_000)}),
)
