/* Makes one system call N times and prints how many nanoseconds of processor time that took.
 *
 * The call is the first argument: getppid, which every program's cache could make by itself, or
 * clock, the clock_gettime of the vdso. The second argument is N. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void make_calls(int is_getppid, long n)
{
    struct timespec t;
    for (long i = 0; i < n; i++) {
        if (is_getppid)
            syscall(SYS_getppid);
        else
            clock_gettime(CLOCK_MONOTONIC, &t);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int is_getppid = !strcmp(argv[1], "getppid");
    long n = atol(argv[2]);
    make_calls(is_getppid, 100);
    long long start = now();
    make_calls(is_getppid, n);
    printf("%lld\n", now() - start);
    return 0;
}
