/* Every call that changes what is mapped, with its results; the output is the same natively. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ul
static const unsigned char code_1[] = {0xb8, 1, 0, 0, 0, 0xc3}; /* mov eax, 1; ret */
static const unsigned char code_2[] = {0xb8, 2, 0, 0, 0, 0xc3};

static int call(void *code) { return ((int (*)(void))code)(); }

static void say(const char *what, long result) {
    if (result == -1)
        printf("%s: errno %d\n", what, errno);
    else
        printf("%s: %ld\n", what, result);
}

static void break_of_the_heap(void) {
    char *start = sbrk(0);
    say("brk grows", brk(start + 3 * PAGE + 100));
    memset(start, 7, 3 * PAGE);
    say("brk shrinks", brk(start));
    say("brk grows again", brk(start + 3 * PAGE));
    say("sum of what came back", start[0] + start[PAGE] + start[3 * PAGE - 1]);
    say("brk too far", brk((void *)-PAGE));
    say("where it is", (char *)sbrk(0) - start);
}

static void generated_code(void) {
    char *page = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code_1, sizeof code_1);
    say("written", call(page));
    memcpy(page, code_2, sizeof code_2);
    say("overwritten", call(page));
    say("read only", mprotect(page, PAGE, PROT_READ | PROT_EXEC));
    say("as before", call(page));
    say("writable", mprotect(page, PAGE, PROT_READ | PROT_WRITE));
    memcpy(page, code_1, sizeof code_1);
    say("executable again", mprotect(page, PAGE, PROT_EXEC));
    say("rewritten", call(page));
    char *moved = mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page + PAGE);
    say("moved by a page", moved - page);
    say("moved", call(moved));
    say("replaced", mmap(moved, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == moved);
    memcpy(moved, code_2, sizeof code_2);
    say("in its place", call(moved));
    say("discarded", madvise(moved, PAGE, MADV_DONTNEED));
    memcpy(moved, code_1, sizeof code_1);
    say("afresh", call(moved));
    say("unmapped", munmap(moved, PAGE));
}

static void mapped_twice(void) {
    int file = memfd_create("code", 0);
    say("truncated", ftruncate(file, PAGE));
    char *writable = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *executable = mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    memcpy(writable, code_1, sizeof code_1);
    say("through the one", call(executable));
    memcpy(writable, code_2, sizeof code_2);
    say("and changed", call(executable));
    munmap(writable, PAGE);
    munmap(executable, PAGE);
    close(file);
}

static void remapping(void) {
    char *area = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 5, 4 * PAGE);
    char *smaller = mremap(area, 4 * PAGE, 2 * PAGE, 0);
    say("smaller", smaller == area);
    char *larger = mremap(area, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    say("larger", larger[0] + larger[2 * PAGE - 1] + larger[2 * PAGE] + larger[64 * PAGE - 1]);
    say("of nothing", (long)mremap((void *)(PAGE * 4), PAGE, PAGE * 2, MREMAP_MAYMOVE));
    say("to nothing", (long)mremap(larger, 64 * PAGE, 0, 0));
    munmap(larger, 64 * PAGE);
    int file = open("/proc/self/exe", O_RDONLY);
    char *text = mmap(0, 3 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    text = mremap(text, 3 * PAGE, PAGE, 0);
    say("a file", !memcmp(text, "\177ELF", 4));
    munmap(text, PAGE);
    close(file);
}

static void mistakes(void) {
    say("no size", (long)mmap(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    say("no page", (long)mmap((void *)1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    say("too much", (long)mmap(0, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    say("no descriptor", (long)mmap(0, PAGE, PROT_READ, MAP_PRIVATE, 77, 0));
    say("no kind", (long)mmap(0, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0));
    say("an odd place in a file", (long)mmap(0, PAGE, PROT_READ, MAP_PRIVATE, 0, 5));
    say("munmap, no page", munmap((void *)1, PAGE));
    say("munmap, no size", munmap((void *)PAGE, 0));
    say("munmap of nothing", munmap((void *)(16 * PAGE), PAGE));
    say("mprotect of nothing", mprotect((void *)(16 * PAGE), PAGE, PROT_READ));
    say("mprotect, no page", mprotect((void *)1, PAGE, PROT_READ));
    say("mprotect, no size", mprotect((void *)PAGE, 0, PROT_READ));
    char *area = mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("taken", (long)mmap(area, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | 0x100000, -1, 0));
    munmap(area + PAGE, PAGE);
    say("mprotect of half", mprotect(area, 2 * PAGE, PROT_NONE));
    say("a hint", mmap(area + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == area + PAGE);
    munmap(area, 2 * PAGE);
}

static void shared_segment(void) {
    int id = shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0600);
    char *area = shmat(id, 0, 0);
    strcpy(area, "shared");
    char *again = shmat(id, 0, SHM_RDONLY);
    printf("%s\n", again);
    say("detached", shmdt(area));
    say("detached", shmdt(again));
    say("detached twice", shmdt(again));
    shmctl(id, IPC_RMID, 0);
}

static void places(void) {
    char *low = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    say("low", (uintptr_t)low < 1ul << 31);
    char *big = mmap(0, 1ul << 33, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    say("in the middle", mmap(big + (1ul << 32), PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == big + (1ul << 32));
    big[1ul << 32] = 1;
    say("a part", munmap(big + PAGE, 1ul << 32));
    say("the rest", munmap(big, 1ul << 33));
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    break_of_the_heap();
    generated_code();
    mapped_twice();
    remapping();
    mistakes();
    shared_segment();
    places();
    return 0;
}
