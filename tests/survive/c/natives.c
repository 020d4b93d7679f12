/* Guest code for tests/survive: functions that native code calls. */
#define _GNU_SOURCE
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static __thread long calls;

long called(void) { return calls; }

int compare(const void *a, const void *b)
{
    calls++;
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

long factorial(long x) { return x < 2 ? 1 : x * factorial(x - 1); }

/* Arguments of all kinds, and a result in xmm0. */
double mixed(double a, long b, float c, long d, double e, long f, long g, long h, long i, double j)
{
    errno += 5;
    return a + 2 * b + 3 * c + 5 * d + 7 * e + 11 * f + 13 * g + 17 * h + 19 * i + 23 * j;
}

long double extended(long double a, long double b) { return a * b - 1; }

struct pair { long first, second; };
struct pair swap(struct pair pair) { return (struct pair){pair.second, pair.first}; }

long sum(int count, ...)
{
    va_list list;
    long total = 0;
    va_start(list, count);
    for (int i = 0; i < count; i++)
        total = total * 3 + va_arg(list, long);
    va_end(list);
    return total;
}

typedef long function(long);
long apply(function *f, long x) { return f(x) + 1; }
long apply_twice(function *f, long x) { return f(f(x)); }
function *const table[] = {factorial, labs};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static long ended;
static void end_key(void *value) { __atomic_add_fetch(&ended, (long)value, __ATOMIC_RELAXED); }
static void make_key(void) { pthread_key_create(&key, end_key); }

void *work(void *argument)
{
    long total = 0, number = (long)argument;
    pthread_once(&once, make_key);
    pthread_setspecific(key, (void *)(number + 1));
    for (long i = 0; i < 200; i++)
        total = total * 31 + (i ^ number);
    return (void *)total;
}

long threads(long count)
{
    pthread_t started[32], *end = started;
    long total = 0;
    void *result;
    for (ended = 0; end < started + count; end++)
        if (pthread_create(end, 0, work, (void *)(end - started)))
            return -1;
    for (pthread_t *next = started; next < end; total = total * 7 + (long)result)
        pthread_join(*next++, &result);
    return total + ended;
}

static pthread_key_t meeting;
static long met;
static void meet(void *barrier)
{
    pthread_barrier_wait(barrier);
    __atomic_add_fetch(&met, 1, __ATOMIC_RELAXED);
}

void *come(void *barrier)
{
    pthread_setspecific(meeting, barrier);
    return barrier;
}

/* Threads whose destructors wait for one another: each has called an instrumented function before. */
long meetings(long count)
{
    pthread_t started[32];
    pthread_barrier_t barrier;
    met = 0;
    pthread_barrier_init(&barrier, 0, count);
    pthread_key_create(&meeting, meet);
    for (long i = 0; i < count; i++)
        if (pthread_create(started + i, 0, come, &barrier))
            return -1;
    for (long i = 0; i < count; i++)
        pthread_join(started[i], 0);
    pthread_key_delete(meeting);
    return met;
}

static void say_goodbye(void) { (void)!write(1, "goodbye\n", 8); }
int goodbye(void) { return atexit(say_goodbye); }

long crash(long *pointer) { return *pointer; }
