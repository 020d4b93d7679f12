/* Computes in THREADS threads, N units of work in each, and prints how many nanoseconds passed.
 *
 * Nothing is shared, so with a processor for each thread that takes as long as in one thread. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long units;

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *compute(void *seed)
{
    uint64_t x = (uintptr_t)seed;
    for (long i = 0; i < units * 1000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return (void *)(uintptr_t)x;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    if (argc != 3)
        return 2;
    long count = atol(argv[1]);
    units = atol(argv[2]);
    if (count < 1 || count > 64)
        return 2;
    long long start = now();
    for (long i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, compute, (void *)(i + 1)))
            return 1;
    for (long i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    printf("%lld\n", now() - start);
    return 0;
}
