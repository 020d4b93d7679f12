"""Translations that are kept on disk: used when they hold, and only then."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.child import child_environment, run_in_child

PROGRAM = """
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static volatile int sum;

__attribute__((noinline)) void store(volatile int *place, int value) { *place = value; }

__attribute__((noinline)) void work(int rounds) {
    for (int i = 0; i < rounds; i++)
        sum += i * rounds;
}

int main(int count, char **words) {
    store(&sum, 1);
    work(100);
    for (int i = 1; i < count; i++) {
        if (!strcmp(words[i], "crash"))
            store(0, 7);
        else if (!strcmp(words[i], "work"))
            work(1000000000);
        else if (!strcmp(words[i], "code")) { /* mov eax, 42; ret */
            char *code = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memcpy(code, "\\xb8\\x2a\\0\\0\\0\\xc3", 6);
            mprotect(code, 4096, PROT_READ | PROT_EXEC);
            printf("%d\\n", ((int (*)(void))code)());
        } else {
            void *library = dlopen(words[i], RTLD_NOW);
            int (*answer)(void) = library ? dlsym(library, "answer") : 0;
            printf("%d\\n", answer ? answer() : -1);
            fflush(stdout);
        }
    }
    return 3;
}
"""
LIBRARY = "int answer(void) { return ANSWER; }\n"
BEHIND_HEADER = 40
"""Where a file's header has ended."""


def compile_source(path: Path, source: str, *options: str) -> str:
    """Compile C and return the path of what it has become."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    command = ["gcc", "-O1", *options, "-xc", "-", "-o", str(path), "-ldl"]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    return str(path)


def compile_library(path: Path, answer: int) -> str:
    """Compile a library whose function returns *answer*."""
    return compile_source(path, LIBRARY, "-shared", "-fPIC", f"-DANSWER={answer}")


class Cached:
    """Runs commands with a folder for translations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self) -> dict[str, str]:
        """Return the environment for a run."""
        return {**child_environment(), "PYDBI_CACHE": str(self.folder)}

    def start(self, command: list[str], *options: str) -> subprocess.Popen[str]:
        """Begin a run."""
        words = [sys.executable, "-m", "pydbi", "run", "--stats", *options, "--", *command]
        pipe = subprocess.PIPE
        environment = self.environment()
        return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment)

    def run(self, *command: str, status: int = 3, options: tuple[str, ...] = ()) -> Ran:
        """Run a command to its end, which is *status*."""
        process = self.start(list(command), *options)
        output, messages = process.communicate(timeout=60)
        assert process.returncode == status, messages
        return Ran(output, messages)

    def call(self, code: Callable[..., None], *arguments: object) -> str:
        """Call *code* in a child process and return what it prints."""
        return run_in_child(code, *arguments, environment={"PYDBI_CACHE": str(self.folder)})

    def files(self) -> list[Path]:
        """Return the files in the folder."""
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []


class Ran:
    """What a run has done.

    Attributes:
        restored, translated: how many blocks.
    """

    def __init__(self, output: str, messages: str) -> None:
        self.output = output
        counters = dict(re.findall(r"(\w+)=(\d+)", messages))
        self.restored, self.translated = int(counters["restored_blocks"]), int(counters["blocks"])


@pytest.fixture
def cached(tmp_path: Path) -> Cached:
    """Return what runs commands with a folder of their own."""
    return Cached(tmp_path / "folder")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of the program."""
    return compile_source(tmp_path_factory.mktemp("program") / "program", PROGRAM)


def test_second_run_translates_nothing(cached: Cached, program: str) -> None:
    """What the first run has translated, the second one has; the folder is private."""
    first = cached.run(program)
    second = cached.run(program)
    assert first.restored == 0
    assert first.translated > 500
    assert second.restored >= first.translated - 20
    assert second.translated < 20
    (file,) = cached.files()
    assert file.stat().st_mode & 0o777 == 0o600
    assert cached.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("options", [("-no-pie",), ("-static",), ("-static-pie",)])
def test_kinds_of_programs(cached: Cached, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Programs at fixed addresses and static ones have translations kept, too."""
    path = compile_source(tmp_path / "kind", "int main(void) { return 3; }", *options)
    assert cached.run(path).translated > 50
    assert cached.run(path).translated < 20


SEGMENTS = """
#include <stdio.h>
#define FAR __attribute__((noinline, section(".far")))
#define NEAR __attribute__((noinline))
FAR int four(int x) { __asm__ volatile(""); return x * 3; }
NEAR int three(int x) { __asm__ volatile(""); return four(x) + 1; }
FAR int two(int x) { __asm__ volatile(""); return three(x + 1) ^ three(x); }
NEAR int one(int x) { __asm__ volatile(""); return two(x) + two(x + 5); }
int main(void) {
    int sum = 0;
    for (int i = 0; i < 100; i++)
        sum += one(i) & four(i);
    printf("%d\\n", sum);
    return 3;
}
"""


def test_a_program_with_two_pieces_of_code(cached: Cached, tmp_path: Path) -> None:
    """Blocks that were laid out behind a call from another piece are made anew, the others hold."""
    options = ("-no-pie", "-Wl,--section-start=.far=0x600000")
    path = compile_source(tmp_path / "segments", SEGMENTS, *options)
    first, second, third = (cached.run(path) for _ in range(3))
    assert second.restored > first.translated - 40
    assert second.translated < 40
    assert third.translated < 40
    assert first.output == second.output == third.output
    natively = subprocess.run([path], stdout=subprocess.PIPE, text=True, check=False)
    assert natively.stdout == first.output


def test_file_grows(cached: Cached, program: str, tmp_path: Path) -> None:
    """What another run needs beside is added; what it does not need stays."""
    library = compile_library(tmp_path / "one.so", 1)
    cached.run(program)
    before = cached.run(program).restored
    assert cached.run(program, library).translated > 20
    assert cached.run(program, "code").restored >= before
    again = cached.run(program, library)
    assert (again.translated < 20, again.output) == (True, "1\n")


def test_changed_library(cached: Cached, program: str, tmp_path: Path) -> None:
    """A library that was written to is translated anew, though size and times are the same."""
    library = tmp_path / "plugin.so"
    compile_library(library, 12)
    other = Path(compile_library(tmp_path / "other.so", 34)).read_bytes()
    assert cached.run(program, str(library)).output == "12\n"
    assert cached.run(program, str(library)).output == "12\n"
    before = library.stat()
    with library.open("r+b") as file:
        file.write(other)
    os.utime(library, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = library.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )
    changed = cached.run(program, str(library))
    assert changed.output == "34\n"
    assert changed.restored > changed.translated > 0


def test_moved_libraries(cached: Cached, program: str, tmp_path: Path) -> None:
    """Libraries that lie where others lay are not taken for them."""
    one = compile_library(tmp_path / "one.so", 1)
    two = compile_library(tmp_path / "two.so", 2)
    for words, output in (((one, two), "1\n2\n"), ((two, one), "2\n1\n"), ((two,), "2\n")) * 2:
        assert cached.run(program, *words).output == output


def test_changed_program(cached: Cached, tmp_path: Path) -> None:
    """A program that was built anew is translated anew, its libraries are not."""
    path = tmp_path / "program"
    for status in (1, 2, 1):
        compile_source(path, f"int main(void) {{ return {status}; }}")
        cached.run(str(path), status=status)
    assert cached.run(str(path), status=1).translated < 20


def test_truncated_library(cached: Cached, program: str, tmp_path: Path) -> None:
    """Of a library that has lost its end, nothing is used that is gone."""
    library = Path(compile_library(tmp_path / "plugin.so", 5))
    assert cached.run(program, str(library)).output == "5\n"
    os.truncate(library, 4096)  # its code lies behind
    native = subprocess.run([program, str(library)], capture_output=True, text=True, check=False)
    ended = cached.start([program, str(library)])
    output, _ = ended.communicate(timeout=60)
    assert (ended.returncode, output) == (native.returncode, native.stdout)


def test_damaged_files(cached: Cached, program: str) -> None:
    """A file with a byte changed anywhere, cut off or empty is as good as none."""
    cached.run(program)
    (file,) = cached.files()
    whole = file.read_bytes()
    random.seed(18)
    pages = int.from_bytes(whole[28:32], "little") + int.from_bytes(whole[32:36], "little")
    places = [0, 8, 12, *(random.randrange(len(whole) - pages) for _ in range(5))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.randrange(8)
        file.write_bytes(damaged)
        assert cached.run(program).restored == 0, place
    for size in (0, 7, BEHIND_HEADER, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert cached.run(program).restored == 0, size
    assert cached.run(program).restored > 500  # the last one has mended it


def test_damage_is_logged(cached: Cached, program: str) -> None:
    """Who listens to pydbi's messages learns why a file is not used."""

    def child(program: str) -> None:
        import logging
        import os

        import pydbi

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        for _ in range(2):
            assert pydbi.Program([program], disk_cache=True).run() == 3
            (file,) = os.scandir(os.environ["PYDBI_CACHE"])
            with open(file.path, "r+b") as content:
                content.seek(100)
                content.write(b"?!?")

    words = [sys.executable, "-c", _source(child, program)]
    done = subprocess.run(
        words, capture_output=True, text=True, env=cached.environment(), timeout=60, check=True
    )
    assert "are not used: its checksum is wrong" in done.stderr


def _source(function: Callable[..., None], *arguments: object) -> str:
    import inspect
    import textwrap

    text = textwrap.dedent(inspect.getsource(function))
    return f"{text}\n{function.__name__}({', '.join(map(repr, arguments))})"


def test_many_write_at_once(cached: Cached, program: str) -> None:
    """Processes that write at the same time leave one whole file, and nothing else."""
    processes = [cached.start([program]) for _ in range(4)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 3
    assert len(cached.files()) == 1
    assert cached.run(program).translated < 20


def test_folders_that_cannot_be_used(cached: Cached, program: str, tmp_path: Path) -> None:
    """Without a folder that is this user's alone the program runs all the same."""
    (tmp_path / "file").write_text("")
    for folder in ("/proc/nowhere", str(tmp_path / "file" / "below")):
        cached.folder = Path(folder)
        assert cached.run(program).restored == 0
    cached.folder = tmp_path / "open"
    cached.folder.mkdir()
    cached.folder.chmod(0o777)
    assert cached.run(program).restored == 0
    assert not cached.files()


def test_foreign_files(cached: Cached, program: str) -> None:
    """A file that others may write to is not read."""
    cached.run(program)
    (file,) = cached.files()
    file.chmod(0o666)
    assert cached.run(program).restored == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(cached: Cached, program: str) -> None:
    """What is there is used, and nothing is added."""
    cached.run(program)
    cached.folder.chmod(0o500)
    try:
        assert cached.run(program, "code").restored > 500
        assert len(cached.files()) == 1
    finally:
        cached.folder.chmod(0o700)


def test_full_disk(cached: Cached, program: str) -> None:
    """Where no large file can be written there is none, and the exit status is the program's."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, before[1]))
    try:
        cached.run(program)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not cached.files()


def test_folder_is_bounded(cached: Cached, program: str) -> None:
    """Old files go when there are too many bytes."""

    def child(program: str) -> None:
        import os

        import pydbi
        from pydbi.program import translation_files

        folder = os.environ["PYDBI_CACHE"]
        os.mkdir(folder, 0o700)
        for number in range(3):
            path = os.path.join(folder, f"old{number}")
            with open(path, "wb") as file:
                file.write(bytes(1 << 20))
            os.utime(path, (number, number))
        translation_files.LARGEST_FOLDER = 5 << 19
        assert pydbi.Program([program], disk_cache=True).run() == 3
        names = sorted(os.listdir(folder))
        assert names[0] == "old2", names
        assert len(names) == 2, names

    cached.call(child, program)


def test_another_processor() -> None:
    """Translations for a processor with other features are not used."""

    def features() -> None:
        from pydbi.host import cpu
        from pydbi.jit.engine import Engine
        from pydbi.program import translation_files

        class Owner:
            pass

        owner = Owner()
        engine = Engine(owner)
        real = cpu.cpu()
        usual = translation_files.name_file(engine, "/", b"program")
        for field in ("rtm", "bmi2", "avx", "avx512", "fsgsbase"):
            other = real._replace(**{field: not getattr(real, field)})
            cpu.cpu = lambda other=other: other
            run = translation_files.name_file(engine, "/", b"program")
            assert run[1] != usual[1]
            assert run[0] != usual[0]
        cpu.cpu = lambda: real._replace(xcr0=real.xcr0 ^ 4, vendor="Other")
        assert translation_files.name_file(engine, "/", b"program")[1] != usual[1]

    run_in_child(features)


def test_another_pydbi(cached: Cached, program: str) -> None:
    """Translations of a pydbi with other sources are not used, and are replaced."""

    def child(program: str, same: bool) -> None:
        import pydbi
        from pydbi.program import translation_files

        real = translation_files._sources
        if not same:
            translation_files._sources = lambda: real()[1:]
        run = pydbi.Program([program], disk_cache=True)
        assert run.run() == 3
        print(run.vm.stats.restored_blocks)

    cached.run(program)
    counts = [int(cached.call(child, program, same)) for same in (False, False, True, True)]
    assert counts[0] == counts[2] == 0
    assert min(counts[1], counts[3]) > 500
    assert len(cached.files()) == 1


def test_callbacks(cached: Cached, program: str) -> None:
    """Where something is called back, nothing is taken from the disk, and nothing is kept."""

    def child(program: str) -> None:
        import os

        import pydbi

        def count(disk_cache: bool) -> int:
            run = pydbi.Program([program], disk_cache=disk_cache)
            calls = 0

            def on_block(*_: object) -> pydbi.VMAction:
                nonlocal calls
                calls += 1
                return pydbi.CONTINUE

            run.vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, on_block, None)
            assert run.run() == 3
            assert run.vm.stats.restored_blocks == 0
            return calls

        assert count(True) > 1000
        assert not os.path.exists(os.environ["PYDBI_CACHE"])
        assert pydbi.Program([program], disk_cache=True).run() == 3
        before = count(False)
        assert abs(count(True) - before) < before // 100

    cached.call(child, program)


def test_callbacks_that_come_later(cached: Cached, program: str, tmp_path: Path) -> None:
    """A callback that is added while the program runs sees what is loaded afterwards."""

    def child(program: str, library: str) -> None:
        import os

        import pydbi

        def run(late: bool) -> int:
            run = pydbi.Program([program, library], disk_cache=True, stdout=-3)
            calls = 0

            def on_instruction(*_: object) -> pydbi.VMAction:
                nonlocal calls
                calls += 1
                return pydbi.CONTINUE

            @run.on_load
            def on_load(run: pydbi.Program, module: pydbi.Module) -> None:
                if late and module.path == library:
                    run.vm.addCodeRangeCB(
                        module.range.start, module.range.end, pydbi.PREINST, on_instruction, None
                    )

            assert run.run() == 3
            return calls

        assert run(False) == run(False) == 0
        (file,) = os.scandir(os.environ["PYDBI_CACHE"])
        before = file.stat().st_mtime_ns, file.stat().st_size
        assert run(True) > 2
        assert run(True) == run(True)
        assert file.stat().st_size == before[1]

    library = compile_library(tmp_path / "plugin.so", 5)
    cached.call(child, program, library)


def test_off(cached: Cached, program: str) -> None:
    """PYDBI_CACHE=off and --no-cache neither use nor write a file."""
    cached.run(program, options=("--no-cache",))
    assert not cached.files()
    cached.run(program)
    assert cached.run(program, options=("--no-cache",)).restored == 0
    cached.folder = Path("off")
    assert cached.run(program).restored == 0
    assert not Path("off").exists()


def test_default_folder(tmp_path: Path) -> None:
    """Without PYDBI_CACHE it is the folder pydbi where the user keeps what can be made again."""

    def child() -> None:
        from pydbi.program.translation_files import default_folder

        print(default_folder())

    home = str(tmp_path)
    for variables, folder in (
        ({"PYDBI_CACHE": "", "XDG_CACHE_HOME": "/some/where"}, "/some/where/pydbi"),
        ({"PYDBI_CACHE": "", "XDG_CACHE_HOME": "", "HOME": home}, f"{home}/.cache/pydbi"),
        ({"PYDBI_CACHE": "", "XDG_CACHE_HOME": "relative", "HOME": home}, f"{home}/.cache/pydbi"),
        ({"PYDBI_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/nowhere"}, "None"),
        ({"PYDBI_CACHE": "/there"}, "/there"),
        ({"PYDBI_CACHE": "off"}, "None"),
    ):
        assert run_in_child(child, environment=variables) == f"{folder}\n"


def test_children_write_nothing(cached: Cached) -> None:
    """Forked children leave the file to their parent, and go on in restored code."""
    script = "for i in 1 2 3; do (x=$i; echo $((x * 2)) | cat); done; exit 3"
    first = cached.run("bash", "-c", script)
    assert len(cached.files()) == 1
    second = cached.run("bash", "-c", script)
    assert first.output == second.output == "2\n4\n6\n"
    assert second.restored > 10 * second.translated


def test_programs_that_execute_others(cached: Cached) -> None:
    """Each program has a file of its own: kept before execve, used where that is followed."""
    command = ["sh", "-c", "(exec env echo a); exec env echo b"]
    counts = []
    for _ in range(2):
        ran = cached.run(*command, status=0, options=("--follow-exec",))
        assert ran.output == "a\nb\n"
        counts.append((ran.restored, ran.translated))
    assert counts[0][1] > 2000
    assert counts[1][0] > 2000
    assert counts[1][1] < 100
    assert {"echo", "env"} < {path.name.rpartition("-")[0] for path in cached.files()}
    shutil.rmtree(cached.folder)
    process = cached.start(["env", "echo", "c"])
    assert process.communicate(timeout=60)[0] == "c\n"
    assert [path.name.rpartition("-")[0] for path in cached.files()] == ["env"]


def test_faults_in_restored_code(cached: Cached, program: str) -> None:
    """A fault in restored code is reported at the same app address as in code translated anew."""

    def child(program: str, disk_cache: bool) -> None:
        import pydbi

        run = pydbi.Program([program, "crash"], disk_cache=disk_cache)
        assert run.run() == -11
        fault = run.fault
        assert isinstance(fault, pydbi.GuestFault)
        assert (run.vm.stats.restored_blocks > 500) == disk_cache
        print(fault.app_address - run.load_address, fault.fault_address, run.vm.getGPRState().rsi)

    cached.run(program)
    assert cached.call(child, program, True) == cached.call(child, program, False)


def test_stopping_in_restored_code(cached: Cached, program: str) -> None:
    """A timeout finds an instruction boundary in restored code, and the program goes on."""

    def child(program: str) -> None:
        import pydbi

        run = pydbi.Program([program, "work"], disk_cache=True)
        stops = 0
        status = None
        while status is None:
            try:
                status = run.run(timeout=0.05)
            except pydbi.GuestTimeout:
                stops += 1
                assert run.modules.around(run.vm.getGPRState().rip) is not None
        assert status == 3
        assert stops > 0
        assert run.vm.stats.restored_blocks > 500

    cached.run(program)
    cached.call(child, program)


def test_forgetting_restored_code(cached: Cached, program: str, tmp_path: Path) -> None:
    """Clearing parts or all of the cache drops what was restored; the program goes on."""

    def child(program: str, library: str, whole: bool) -> None:
        import pydbi

        run = pydbi.Program([program, library, library], disk_cache=True, stdout=-3)

        def after(vm: pydbi.VM, call: object) -> None:
            if whole:
                vm.clearAllCache()
            else:
                for module in vm.program.modules:
                    vm.clearCache(module.range.start, module.range.end)

        run.addSyscallCB("mmap", after=after)
        assert run.run() == 3
        assert run.vm.stats.restored_blocks > 0
        assert run.vm.stats.blocks > 100

    library = compile_library(tmp_path / "plugin.so", 5)
    cached.run(program, library)
    for whole in (True, False, True):
        cached.call(child, program, library, whole)
        assert cached.run(program, library).output == "5\n"


def test_all_tables_are_known() -> None:
    """Whoever adds a table to the cache decides whether snapshots must have it."""
    from pydbi.jit.cache import CodeCache

    kept = {"arenas", "entries", "exits", "fallen", "blocks", "stub_chunks"}
    kept |= {"syscall_resumes", "syscall_places"}
    of_instrumented_code = {
        "bodies", "borders", "checked", "cut_blocks", "cut_exits", "event_points", "far_pieces",
        "far_ways", "gate_records", "instruction_readers", "loads", "points", "record_count",
        "record_words", "records", "records_address", "seen", "seen_borders", "sequence_readers",
    }  # fmt: skip
    others = {"arena_size", "call_blocks", "calls", "far_arena", "mapped_twice"}
    public = {name for name in vars(CodeCache()) if not name.startswith("_")}
    assert public == kept | of_instrumented_code | others


def test_no_addresses_of_this_process(cached: Cached, program: str) -> None:
    """No file names an address of the stubs or of a context: they lie elsewhere the next time."""

    def child(program: str) -> None:
        import os

        import pydbi
        from pydbi.jit.context import CONTEXT_SIZE
        from pydbi.jit.stubs import stubs

        run = pydbi.Program([program], disk_cache=True)
        assert run.run() == 3
        (file,) = os.scandir(os.environ["PYDBI_CACHE"])
        with open(file.path, "rb") as opened:
            content = opened.read()
        for start, size in (
            (stubs().address, stubs().size),
            (run.vm._engine.guest.address, CONTEXT_SIZE),
            (id(run.vm), 1),
        ):
            for address in range(start, start + size, 1 << 16):
                assert (address >> 16).to_bytes(4, "little") not in content

    cached.call(child, program)
