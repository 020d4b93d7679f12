/* Clocks through the vdso, time limits, random numbers, the processor's number. */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static double now(clockid_t clock)
{
    struct timespec t;
    NEED(clock_gettime(clock, &t) == 0);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(void)
{
    double before = now(CLOCK_MONOTONIC);
    for (int i = 0; i < 2000; i++) {
        double t = now(CLOCK_MONOTONIC);
        NEED(t >= before);
        before = t;
    }
    struct timeval day;
    gettimeofday(&day, NULL);
    SHOW(labs(time(NULL) - day.tv_sec) <= 1);
    SHOW(now(CLOCK_REALTIME) >= day.tv_sec);
    SHOW(now(CLOCK_BOOTTIME) >= now(CLOCK_MONOTONIC) - 1);
    struct timespec nap = {0, 20000000}, left;
    double start = now(CLOCK_MONOTONIC);
    SHOW(nanosleep(&nap, &left));
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL));
    SHOW(now(CLOCK_MONOTONIC) - start >= 0.04);
    SHOW(now(CLOCK_PROCESS_CPUTIME_ID) > 0);
    unsigned char random[64] = {0};
    SHOW(getrandom(random, sizeof random, 0));
    int zeros = 0;
    for (unsigned i = 0; i < sizeof random; i++)
        zeros += random[i] == 0;
    SHOW(zeros < 10);
    SHOW(getentropy(random, 32));
    unsigned processor, node;
    SHOW(getcpu(&processor, &node));
    SHOW(processor < (unsigned)get_nprocs_conf());
    cpu_set_t set;
    SHOW(sched_getaffinity(0, sizeof set, &set));
    SHOW(CPU_COUNT(&set));
    SHOW(sched_yield());
    struct tm broken;
    time_t moment = 86400 * 365;
    gmtime_r(&moment, &broken);
    SHOW(broken.tm_year);
    struct rusage usage;
    SHOW(getrusage(RUSAGE_SELF, &usage));
    struct tms t;
    SHOW(times(&t) != -1);
    return 0;
}
