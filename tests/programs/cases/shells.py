"""Shells, and what starts processes for them."""

from __future__ import annotations

from typing import Any

from tests.programs.cases.inputs import TEXT, TREE
from tests.programs.harness import Case


def bash(name: str, script: str, **more: Any) -> Case:
    """A case that hands *script* to bash."""
    return Case(name, ("bash", "-c", script), **more)


_ECHO_ARGUMENTS = '#!{}\nfor word; do echo "[$word]"; done\necho $0\n'
_TRAPS = """
trap 'echo got USR1' USR1
trap 'echo leaving with $?' EXIT
trap 'echo error at $LINENO' ERR
kill -USR1 $$
false
(trap 'echo inner end' EXIT; exit 3); echo inner $?
exit 5
"""
_JOBS = """
for i in 1 2 3; do (sleep 0.0$i; exit $i) & pids[i]=$!; done
for i in 3 2 1; do wait ${pids[i]}; echo job $i: $?; done
sleep 20 & kill -TERM $!; wait $!; echo killed: $?
"""
_JOB_CONTROL = """
set -m
sleep 10 & pid=$!
kill -STOP %1
until jobs | grep -q Stopped; do sleep 0.01; done
jobs | sed 's/  */ /g'
kill -CONT %1; kill -TERM %1
wait $pid; echo $?
(exit 4) & wait $!; echo $?
"""
_FUNCTIONS = r"""
declare -A seen
fib() {
    local n=$1; ((n < 2)) && { echo $n; return; }
    echo $(($(fib $((n - 1))) + $(fib $((n - 2)))))
}
fib 6
while read -r number first rest; do seen[$first]=$((${seen[$first]:-0} + number)); done < text
for key in "${!seen[@]}"; do echo "$key ${seen[$key]}"; done | sort
text="one two  three"; echo ${text// /_} ${#text} ${text^^} "${text%%t*}"
printf '%s\n' {a..c}{1..3} | paste -sd,
[[ abc123 =~ ([a-z]+)([0-9]+) ]] && echo "${BASH_REMATCH[2]} ${BASH_REMATCH[1]}"
case $text in one*) echo matched;; esac
"""
_SIGNALS = """
trap 'echo interrupted; n=$((n+1))' INT
n=0
for i in 1 2 3; do kill -INT $$; done
echo $n
trap '' TERM; kill -TERM $$; echo still here
trap - TERM; kill -TERM $$; echo never
"""
_COPROC = """
coproc cat
echo through >&${COPROC[1]}
read -r line <&${COPROC[0]}; echo "$line"
exec {fd}>made; echo text >&$fd; exec {fd}>&-; cat made
"""

CASES = (
    bash(
        "bash-pipes",
        "cat text | grep a | sort | uniq -c | sort -rn | head -5",
        files={"text": TEXT},
        follow=True,
    ),
    bash(
        "bash-pipe-status",
        "false | true; echo $? ${PIPESTATUS[@]}; set -o pipefail; false | true",
        status=1,
    ),
    bash(
        "bash-here-document",
        "cat <<END\n$((6 * 7)) $(echo inner)\nEND\ncat <<< string",
        follow=True,
    ),
    bash("bash-traps", _TRAPS, status=5),
    bash("bash-jobs", _JOBS, follow=True),
    bash("bash-job-control", _JOB_CONTROL),
    bash("bash-process-substitution", "diff <(seq 3) <(seq 2 4); echo $?", follow=True),
    bash(
        "bash-command-substitution",
        "for f in $(ls tree); do x=$(basename $f .txt); echo $x; done",
        files=TREE,
    ),
    bash("bash-functions", _FUNCTIONS, files={"text": TEXT}, module="bash"),
    bash("bash-signals", _SIGNALS, status=-15),
    bash("bash-coproc", _COPROC),
    bash("bash-exec", "exec -a other sh -c 'echo $0'", follow=True),
    bash("bash-closed-input", "exec 0<&-; cat; echo $?"),
    bash(
        "bash-missing-command",
        "no-such-command; echo $?; /; echo $?; ./text; echo $?",
        files={"text": "plain\n"},
    ),
    bash("bash-limits", "ulimit -n 50; ulimit -n; ulimit -s"),
    bash("bash-umask", "umask 027; umask; touch made; mkdir folder; cd folder; basename $PWD"),
    bash("bash-time-out", "read -t 0.1 line < <(sleep 0.5); echo $(($? > 128))"),
    bash(
        "bash-kill-group",
        "trap '' TERM; (trap - TERM; touch ready; sleep 30) &\n"
        "until [ -e ready ]; do sleep 0.01; done; kill $!; wait $!; echo $?",
    ),
    bash("bash-glob", "shopt -s globstar; printf '%s\\n' tree/**/*.txt", files=TREE),
    bash(
        "bash-proc-self",
        "readlink /proc/self/exe; [[ /proc/$$/exe -ef /bin/bash ]]; echo $?; cat /proc/self/comm",
        follow=True,
    ),
    Case(
        "bash-script",
        "./script one 'two words'",
        needs=("bash",),
        files={"script": _ECHO_ARGUMENTS.format("/bin/bash")},
    ),
    Case(
        "sh-script-with-option",
        "./script a",
        files={"script": _ECHO_ARGUMENTS.format("/bin/sh -x")},
    ),
    Case(
        "env-script",
        "./script a 'b c'",
        files={"script": _ECHO_ARGUMENTS.format("/usr/bin/env bash")},
        needs=("bash",),
        follow=True,
    ),
    Case(
        "nested-script",
        "./outer x",
        files={"inner": "#!/bin/sh\necho inner $@\n", "outer": "#!./inner -option\n"},
    ),
    Case("bash-login-input", "bash -s one two", stdin="echo $1 $2\nread line\ntaken\necho $line\n"),
    Case(
        "dash",
        (
            "dash",
            "-c",
            "x=0; while [ $x -lt 200 ]; do x=$((x + 1)); done; echo $x; "
            "echo a b | { read p q; echo $q $p; }; cat <<E\nhere $x\nE\ntrap 'echo bye' EXIT",
        ),
    ),
    Case("find", "find tree -type f -name '*.txt' -size -2 -printf '%P %s %m %Ts\\n'", files=TREE),
    Case(
        "find-exec",
        "find tree -name '*.txt' -exec wc -c {} ;",
        files=TREE,
        follow=True,
        ignore={"stdout": "is in the folder's order"},
    ),
    Case("find-exec-many", "find tree -type f -exec cat {} +", files={"tree/a": "a\n"}),
    Case("find-delete", "find tree -name '*.txt' -delete", files=TREE),
    Case("xargs", "xargs -n 3 echo +", stdin="a b c d e f g"),
    Case(
        "xargs-parallel",
        "xargs -P 4 -I % sh -c 'sleep 0.0%; exit 0'",
        stdin="1\n2\n3\n4\n5\n6\n",
        follow=True,
    ),
    Case("xargs-failing", "xargs -n 1 false", stdin="a b", status=123),
    Case("script-pty", "script -qec 'echo on a terminal; test -t 1' /dev/null", follow=True),
    Case("flock", "flock lock sh -c 'echo locked; exit 4'", status=4),
    Case("stdbuf", "stdbuf -oL echo preloaded", follow=True),
    Case("setsid", "setsid -w echo detached"),
    Case("ldd", "ldd /bin/true", ignore={"stdout": "shows addresses"}),
    Case(
        "ld.so-list",
        "/lib64/ld-linux-x86-64.so.2 --list /bin/true",
        ignore={"stdout": "shows addresses"},
    ),
    Case(
        "ld.so-run", "/lib64/ld-linux-x86-64.so.2 /bin/echo through the loader", module="libc.so.6"
    ),
    Case(
        "ld-debug", "true", variables={"LD_DEBUG": "statistics"}, ignore={"stderr": "shows times"}
    ),
    Case("getconf", "getconf ARG_MAX"),
    Case("not-executable", "bash -c './text; echo $?'", files={"text": "x"}, needs=("bash",)),
)
