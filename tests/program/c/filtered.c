/* System calls that most often stay in the cache: paths and descriptors of all kinds. With an argument
 * a timer interrupts them 2,000 times a second. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t ticks;

static void tick(int number) {
    (void)number;
    ticks++;
}

/* The result of a raw call, and whether it has left all flags and registers but rax, rcx, r11 alone. */
static long raw(long number, const void *first, const void *second, long third, long fourth) {
    long result, before, after, r10_after;
    register long r10 __asm__("r10") = fourth;
    __asm__ volatile(
        "stc\n std\n pushfq\n popq %1\n syscall\n pushfq\n popq %2\n cld\n"
        : "=a"(result), "=&r"(before), "=&r"(after), "+r"(r10)
        : "0"(number), "D"(first), "S"(second), "d"(third)
        : "rcx", "r11", "memory", "cc");
    r10_after = r10;
    if (before != after || r10_after != fourth)
        printf("call %ld: flags %#lx, then %#lx\n", number, before, after);
    return result;
}

static char *at_the_end_of_a_page(const char *text) {
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    char *place = page + 4096 - strlen(text) - 1;
    return strcpy(place, text);
}

static const char *PATHS[] = {"/", ".", "", "/dev/null", "/proc", "/proc/", "/proc/self", "/proc/1/exe",
                              "/pro", "/process", "//proc/self/exe", "/nowhere", "/proc/self/cmdline"};
enum { COUNT = sizeof PATHS / sizeof *PATHS };

int main(int count, char **arguments) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}};
    static char buffer[4096];
    long sum = 0;
    const void *bad[] = {0, (void *)8, (void *)-1, (void *)(1L << 62)};

    for (int n = 0; n < COUNT; n++) {
        for (int tight = 0; tight < 2; tight++) {
            const char *path = tight ? at_the_end_of_a_page(PATHS[n]) : PATHS[n];
            printf("%s: %ld %ld %ld %ld\n", PATHS[n], raw(SYS_access, path, (void *)R_OK, 0, 0),
                   raw(SYS_stat, path, buffer, 0, 0), raw(SYS_newfstatat, (void *)AT_FDCWD, path, (long)buffer, 0),
                   raw(SYS_faccessat, (void *)AT_FDCWD, path, R_OK, 0));
        }
    }
    for (int n = 0; n < 4; n++)
        printf("bad %d: %ld %ld\n", n, raw(SYS_open, bad[n], 0, 0, 0),
               raw(SYS_openat, (void *)AT_FDCWD, bad[n], 0, 0));
    memset(buffer, 0, 64);
    printf("exe: %ld %d\n", raw(SYS_readlink, "/proc/self/exe", buffer, 64, 0), !!strstr(buffer, "filtered"));
    for (long number = -2; number < 5000; number++)
        if (number < 0 || number > 2)
            sum += raw(SYS_close, (void *)number, 0, 0, 0) + raw(SYS_dup, (void *)number, 0, 0, 0)
                   + raw(SYS_fcntl, (void *)number, (void *)F_GETFD, 0, 0);
    printf("descriptors: %ld\n", sum);
    fflush(stdout);
    if (count > 1) {
        sigaction(SIGALRM, &action, 0);
        setitimer(ITIMER_REAL, &often, 0);
        sum = 0;
        for (long turn = 0; turn < 40000; turn++) {
            const char *path = PATHS[turn % COUNT];
            sum += raw(SYS_access, path, (void *)R_OK, 0, 0) == 0;
            sum += raw(SYS_faccessat, (void *)AT_FDCWD, path, R_OK, 0) == 0;
            sum += raw(SYS_access, bad[turn % 4], 0, 0, 0) == -EFAULT;
            sum += raw(SYS_dup, (void *)99, 0, 0, 0) == -EBADF;
        }
        printf("interrupted: %ld %s\n", sum, ticks > 20 ? "often" : "too rarely");
    }
    return 0;
}
