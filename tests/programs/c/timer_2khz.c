/* A timer's signal every 500 microseconds while loops, string instructions, divisions, x87, vectors
   and system calls go on: the results must be those of an undisturbed run. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>
#include "check.h"

static volatile sig_atomic_t ticks;
static volatile double scratch;

static void tick(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    scratch = sqrt(ticks) + 1.0L / (ticks + 1);
    ticks++;
}

static unsigned long kernel(unsigned char *data, long size)
{
    unsigned long hash = 1469598103934665603UL;
    long double extended = 1;
    for (long i = 0; i < size; i++) {
        data[i] = (unsigned char)(i * 37 + (hash >> 60));
        hash = (hash ^ data[i]) * 1099511628211UL;
        if (i % 512 == 0) {
            hash += hash / (i + 3);
            extended = extended * 1.0000001L + hash % 1000;
            if (getppid() < 0)
                hash = 0;
        }
    }
    __asm__ volatile("rep movsb" : : "D"(data), "S"(data + size / 2), "c"(size / 2) : "memory");
    for (long i = 0; i < size; i += 64)
        hash = (hash ^ data[i]) * 31;
    return hash ^ (unsigned long)fmodl(extended, 1e9L);
}

int main(void)
{
    long size = 100000;
    unsigned char *data = calloc(1, size);
    unsigned long undisturbed = kernel(data, size);
    struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &timer, NULL);
    long rounds = 0, wrong = 0;
    for (; ticks < 400; rounds++)
        wrong += kernel(data, size) != undisturbed;
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    SHOW(rounds > 0);
    SHOW(wrong);
    printf("%lx\n", undisturbed);
    return 0;
}
