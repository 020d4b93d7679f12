/* Sets limits of memory, meets them, and executes itself with them. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB (1ul << 20)

static void try(const char *what, unsigned long size, int flags) {
    errno = 0;
    char *area = mmap(0, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    printf("%s: %s\n", what, area == MAP_FAILED ? strerror(errno) : "mapped");
    if (area != MAP_FAILED)
        munmap(area, size);
}

static void set(int which, unsigned long soft) {
    struct rlimit limit, before;
    getrlimit(which, &limit);
    limit.rlim_cur = soft;
    printf("set: %d\n", setrlimit(which, &limit));
    prlimit(0, which, 0, &before);
    printf("it is %ld\n", (long)before.rlim_cur);
    limit.rlim_cur = limit.rlim_max + (limit.rlim_max != RLIM_INFINITY);
    printf("too high: %d\n", limit.rlim_cur > limit.rlim_max ? setrlimit(which, &limit) : -1);
}

int main(int count, char **arguments) {
    setvbuf(stdout, 0, _IONBF, 0);
    if (count > 1) {
        struct rlimit limit;
        getrlimit(RLIMIT_AS, &limit);
        printf("passed on: %ld\n", (long)limit.rlim_cur);
        return 0;
    }
    set(RLIMIT_DATA, 64 * MIB);
    try("data", 256 * MIB, MAP_PRIVATE);
    try("shared memory is no data", 256 * MIB, MAP_SHARED);
    char *end = sbrk(0);
    printf("heap: %d\n", brk(end + 256 * MIB));
    set(RLIMIT_DATA, RLIM_INFINITY);
    try("data", 256 * MIB, MAP_PRIVATE);
    set(RLIMIT_AS, 900 * MIB);
    try("too much", 1024 * MIB, MAP_SHARED);
    try("little", MIB, MAP_PRIVATE);
    char *area = mmap(0, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("grown: %d\n", mremap(area, MIB, 1024 * MIB, MREMAP_MAYMOVE) == MAP_FAILED);
    set(RLIMIT_NOFILE, 500);
    printf("one that the kernel keeps: %d\n", dup2(1, 600));
    execl("/nowhere", "x", (char *)0);
    try("as before", 1024 * MIB, MAP_SHARED);
    execl(arguments[0], arguments[0], "again", (char *)0);
    return 1;
}
