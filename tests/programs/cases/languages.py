"""Interpreters and virtual machines."""

from __future__ import annotations

import sys
from typing import Any

from tests.programs.harness import Case

_PYTHON_THREADS = """
import queue, threading, concurrent.futures
work, done = queue.Queue(), []
def worker():
    while (item := work.get()) is not None:
        done.append(item * item)
threads = [threading.Thread(target=worker) for _ in range(4)]
for t in threads: t.start()
for i in range(200): work.put(i)
for t in threads: work.put(None)
for t in threads: t.join()
print(sum(done))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(lambda n: sum(range(n)), range(200))))
"""
_PYTHON_PROCESSES = """
import os, signal, subprocess, sys
print(subprocess.run(["sort", "-n"], input="3\\n1\\n2\\n", capture_output=True, text=True).stdout)
print(subprocess.run("exit 3", shell=True).returncode)
try: subprocess.run(["no-such-program"])
except FileNotFoundError as error: print(error)
try: subprocess.run(["sleep", "9"], timeout=0.1)
except subprocess.TimeoutExpired: print("timed out")
pid = os.fork()
if pid == 0: os._exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
signal.signal(signal.SIGALRM, lambda *a: print("alarm")); signal.setitimer(signal.ITIMER_REAL, 0.05)
signal.pause()
sys.stdout.flush(); os.kill(os.getpid(), signal.SIGUSR1)
"""
_PYTHON_CTYPES = """
import ctypes
libc = ctypes.CDLL(None)
array = (ctypes.c_int * 6)(5, 3, 9, 1, 7, 2)
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
def compare(a, b): return a[0] - b[0]
libc.qsort(array, 6, 4, compare); print(list(array))
libc.strtod.restype = ctypes.c_double; print(libc.strtod(b"2.5e3", None))
print(ctypes.string_at(b"bytes", 3), ctypes.sizeof(ctypes.c_long))
"""
_PYTHON_WORK = """
import decimal, hashlib, json, math, re, sqlite3, zlib
print(json.loads(json.dumps({"a": [1, 2.5, None, "\\u00e4"]})), re.findall(r"(\\w)\\1", "aabbcdd"))
print(hashlib.sha256(b"x" * 1000).hexdigest(), zlib.crc32(bytes(range(256))), math.gamma(5.5))
print(decimal.Decimal(2).sqrt(), 3 ** 200 % 1000007, f"{1e23!r} {0.1 + 0.2}")
print(sqlite3.connect(":memory:").execute("select upper('sql'), 7 / 2.0").fetchall())
print(sorted(str(hash((1, 2, i)))[-3:] for i in range(5)), sum(i * i for i in range(20000)))
def deep(n): return n and 1 + deep(n - 1)
print(deep(900))
raise SystemExit(9)
"""
_SUBPROCESS = (
    "ProcessTestCase.test_communicate",
    "ProcessTestCase.test_communicate_pipe_buf",
    "ProcessTestCase.test_bufsize_is_none",
    "ProcessTestCase.test_cwd",
    "ProcessTestCase.test_env",
    "ProcessTestCase.test_invalid_args",
    "ProcessTestCase.test_poll",
    "ProcessTestCase.test_stdin_pipe",
    "ProcessTestCase.test_stdout_filedes",
    "POSIXProcessTestCase.test_exception_bad_executable",
    "POSIXProcessTestCase.test_exception_cwd",
    "POSIXProcessTestCase.test_preexec_exception",
    "POSIXProcessTestCase.test_run_abort",
    "POSIXProcessTestCase.test_start_new_session",
    "POSIXProcessTestCase.test_send_signal",
    "POSIXProcessTestCase.test_close_fds",
)
_CTYPES = "ctypes.test" if sys.version_info < (3, 12) else "test.test_ctypes"
_NODE = """
const fs = require('fs'), crypto = require('crypto'), { execSync } = require('child_process');
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
console.log(fib(22), [3, 1, 2].sort(), JSON.stringify({ a: [1, { b: null }] }));
console.log(crypto.createHash('sha256').update('x').digest('hex'));
console.log(/(\\d+)-(\\w+)/.exec('12-ab').slice(1));
fs.writeFileSync('made', 'content'); console.log(execSync('cat made').toString());
Promise.all([1, 2, 3].map(async n => n * 2)).then(v => { console.log(v); process.exitCode = 4; });
setTimeout(() => console.log('later'), 5);
"""
_LUA = """
local t = {} for i = 1, 500 do t[i] = (i * 7919) % 503 end table.sort(t)
print(t[1], t[250], t[500], ("x"):rep(5), string.format("%5.2f", math.pi), #arg)
local co = coroutine.wrap(function(a) for i = 1, 3 do a = coroutine.yield(a * i) end end)
print(co(2), co(3), pcall(error, {1}) , select("#", 1, nil))
print(("key=value"):match("(%w+)=(%w+)")) os.exit(3)
"""
_RUBY = """
puts (1..20).select(&:even?).map { |x| x ** 2 }.sum, "text".tr('a-y', 'b-z'), [3, 1, 2].sort.inspect
puts Thread.new { (1..1000).sum }.value, Fiber.new { |x| Fiber.yield x + 1 }.resume(4)
begin; raise ArgumentError, "bad"; rescue => e; puts e.message; end
puts `echo shell`, 2 ** 100, (fork { exit! 3 }; Process.wait; $?.exitstatus); exit 2
"""
_GUILE = """
(define (fact n) (if (= n 0) 1 (* n (fact (- n 1)))))
(display (fact 30)) (newline)
(display (call-with-current-continuation (lambda (k) (+ 1 (k 42))))) (newline)
(display (sort '(3 1 2) <)) (exit 4)
"""
_TCL = """
proc factorial n {expr {$n < 2 ? 1 : $n * [factorial [expr {$n - 1}]]}}
puts [lsort -integer {5 3 9}]; puts [factorial 25]; puts [exec echo out]; exit 3
"""


def python(name: str, source: str, **more: Any) -> Case:
    """A case that runs *source* in the Python that runs the tests."""
    return Case(name, ("{python}", "-c", source), **more)


def python_tests(module: str, *selected: str, **more: Any) -> Case:
    """A case that runs one of Python's own test modules, or some of its tests."""
    command = (
        "{python}",
        "-W",
        "ignore",
        "-m",
        "unittest",
        "-q",
        *(selected or (f"test.{module}",)),
    )
    return Case(
        f"python-{module}",
        command,
        needs=("module:test",),
        timeout=120,
        ignore={"stderr": "shows the time"},
        **more,
    )


CASES = (
    python("python-print", "print(1)", module="libc.so.6"),
    python("python-work", _PYTHON_WORK, status=9, variables={"PYTHONHASHSEED": "1"}),
    python("python-threads", _PYTHON_THREADS),
    python("python-processes", _PYTHON_PROCESSES, status=-10),
    python("python-ctypes", _PYTHON_CTYPES),
    python(
        "python-identity",
        "import os, sys; print(sys.argv, sys.executable, os.readlink('/proc/self/exe'),"
        " open('/proc/self/comm').read(), sys.orig_argv[1:2], sorted(os.environ))",
    ),
    python(
        "python-broken-pipe",
        "import sys; sys.stdout.close(); print('x', file=sys.stderr); sys.exit('end')",
        status=1,
    ),
    python("python-traceback", "def f(): return 1 / 0\nf()", status=1),
    python_tests(
        "test_json",
        "test.test_json.test_decode",
        "test.test_json.test_unicode",
        "test.test_json.test_float",
    ),
    python_tests("test_re", "test.test_re.ReTests"),
    python_tests("test_threading", "test.test_threading.BarrierTests"),
    python_tests("test_subprocess", *(f"test.test_subprocess.{name}" for name in _SUBPROCESS)),
    python_tests("test_ctypes", f"{_CTYPES}.test_callbacks", f"{_CTYPES}.test_structures"),
    Case(
        "python-debian",
        "/usr/bin/python3 -S -c 'print(sum(range(10)))'",
        needs=("/usr/bin/python3",),
    ),
    Case("node", ("node", "-e", _NODE), status=4, timeout=120),
    Case(
        "java",
        "java -Xshare:auto -Xmx128m -XX:+UseSerialGC -cp {bin}/classes Main",
        builds=("classes",),
        status=6,
        timeout=180,
    ),
    Case("lua", ("lua5.4", "-"), stdin=_LUA, status=3),
    Case("ruby", ("ruby", "--disable-gems", "-e", _RUBY), status=2),
    Case(
        "guile",
        ("guile-3.0", "--no-auto-compile", "-c", _GUILE),
        status=4,
        needs=("guile-3.0",),
        timeout=120,
    ),
    Case("tclsh", "tclsh", stdin=_TCL, status=3),
    Case(
        "busybox",
        "busybox sh -c 'busybox seq 5 | busybox sort -r; busybox md5sum text'",
        files={"text": "text\n"},
    ),
    Case("busybox-awk", "busybox awk 'BEGIN { for (i = 0; i < 300; i++) s += i * i; print s }'"),
    Case("go-program", "{bin}/go-program one two", builds=("go-program",), status=3),
    Case("rust-program", "{bin}/rust-program one two", builds=("rust-program",), status=3),
)
