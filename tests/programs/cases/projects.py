"""Building and keeping software: compilers, make, binary tools, git."""

from __future__ import annotations

from typing import Any

from tests.programs.cases.inputs import TREE
from tests.programs.harness import Case

_HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 4; }\n'
_PROJECT = {
    "Makefile": (
        "objects = main.o part.o\nprogram: $(objects)\n\t$(CC) -o $@ $^\n"
        "%.o: %.c part.h\n\t$(CC) -O1 -Wall -c -o $@ $<\n"
        "check: program\n\t./program | grep -q 42\n\t@echo checked\n.PHONY: check\n"
    ),
    "main.c": '#include <stdio.h>\n#include "part.h"\n'
    'int main(void) { printf("%d\\n", part(6)); return 0; }\n',
    "part.c": '#include "part.h"\nint part(int n) { return 7 * n; }\n',
    "part.h": "int part(int n);\n",
}
_ASSEMBLY = ".globl _start\n_start: mov $60, %eax\n mov $7, %edi\n syscall\n"
_WHO = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A"), ("EMAIL", "a@b.c"), ("DATE", "2001-02-03T04:05:06Z"))
} | {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "init.defaultBranch",
    "GIT_CONFIG_VALUE_0": "main",
    "GIT_CONFIG_KEY_1": "gc.auto",
    "GIT_CONFIG_VALUE_1": "0",
}
_GIT = """set -e
git init -q .; git add tree; git commit -qm 'first commit'
echo changed >> tree/one.txt; git diff --stat; git diff
git commit -qam second; git log --format='%H %s %ad'
git checkout -q -b side HEAD~1; git mv tree/two.txt tree/moved.txt; git commit -qm moved
git merge -q -m merged main; git log --oneline --graph --stat
git tag -a v1 -m one; git describe; git gc -q; git fsck --no-progress; git cat-file -p HEAD
"""
_INDEX = {".git/index": "holds inode numbers and times", ".git/logs/*": "unneeded"}


def _git(name: str, script: str, **more: Any) -> Case:
    return Case(
        name,
        ("bash", "-ec", script),
        files=TREE,
        variables=_WHO,
        needs=("git",),
        ignore=_INDEX,
        **more,
    )


CASES = (
    Case("git-version", "git --version"),
    Case("git-init", "git init -q folder", variables=_WHO),
    Case("git-hash-object", "git hash-object tree/one.txt tree/two.txt", files=TREE),
    Case("git-log", "git log --oneline", status=128, variables={"LC_ALL": "C"}),
    _git("git-project", _GIT, follow=True, timeout=120),
    Case("gcc-version", "gcc --version"),
    Case(
        "gcc", "gcc -O1 -Wall hello.c -o hello", files={"hello.c": _HELLO}, follow=True, timeout=120
    ),
    Case(
        "gcc-error",
        "gcc -c broken.c",
        status=1,
        files={"broken.c": "int main(void) { return x; }\n"},
        follow=True,
    ),
    Case(
        "cpp",
        "cpp -P -DX=3 source",
        files={"source": "#if X > 2\nyes X\n#else\nno\n#endif\n"},
        follow=True,
    ),
    Case(
        "g++-templates",
        "g++ -std=c++17 -S -O1 t.cpp -o t.s",
        follow=True,
        timeout=120,
        files={
            "t.cpp": "#include <vector>\nint f(int n) { std::vector<int> v(n, 2); int s = 0; "
            "for (int x : v) s += x; return s; }\n"
        },
    ),
    Case(
        "make",
        "make -s check",
        files=_PROJECT,
        needs=("gcc",),
        follow=True,
        timeout=120,
        ignore={"stderr": "warns of clocks"},
    ),
    Case("make-parallel", "make -s -j4 check", files=_PROJECT, needs=("gcc",)),
    Case("make-dry", "make -n", files=_PROJECT),
    Case("as", "as start.s -o start.o", files={"start.s": _ASSEMBLY}, module="libc.so.6"),
    Case(
        "as-ld-run",
        "bash -c 'as start.s -o s.o && ld s.o -o s && ./s'",
        files={"start.s": _ASSEMBLY},
        needs=("as", "ld"),
        status=7,
        follow=True,
    ),
    Case("objdump", "objdump -d --no-show-raw-insn {bin}/bare", builds=("bare",)),
    Case("readelf", "readelf -hlW {bin}/bare", builds=("bare",)),
    Case("nm", "nm -D /lib64/ld-linux-x86-64.so.2", needs=("nm",)),
    Case("strip", "bash -c 'cp {bin}/start . && strip start'", builds=("start",), follow=True),
    Case(
        "ar",
        "bash -c 'ar rc made.a one two && ar t made.a'",
        files={"one": "1", "two": "2"},
        needs=("ar",),
    ),
    Case("gdb-version", "gdb --version"),
    Case("cmake-version", "cmake --version"),
)
