/* Guest code for tests/survive: functions that somebody else calls. */
#define _GNU_SOURCE
#include <pthread.h>
#include <search.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long calls;

int compare(const void *a, const void *b)
{
    calls++;
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static int compare_with(const void *a, const void *b, void *sign)
{
    return compare(a, b) * *(int *)sign;
}

long sort(long *values, size_t count)
{
    calls = 0;
    qsort(values, count, sizeof *values, compare);
    return calls;
}

long sort_down(long *values, size_t count)
{
    int sign = -1;
    calls = 0;
    qsort_r(values, count, sizeof *values, compare_with, &sign);
    return calls;
}

long find(const long *values, size_t count, long key)
{
    calls = 0;
    const long *found = bsearch(&key, values, count, sizeof *values, compare);
    return found ? calls : -calls;
}

static long visited;
static void visit(const void *node, VISIT when, int depth)
{
    if (when == postorder || when == leaf)
        visited = visited * 31 + **(long *const *)node + depth;
}
static void no_free(void *node) { (void)node; calls++; }

long tree(long *values, size_t count)
{
    void *root = 0;
    calls = visited = 0;
    for (size_t i = 0; i < count; i++)
        tsearch(&values[i], &root, compare);
    twalk(root, visit);
    tdestroy(root, no_free);
    return visited + calls;
}

static pthread_once_t once;
static pthread_key_t key;
static void begin(void) { calls++; }
static void end_key(void *value) { calls += (long)value; }

long initialise(long rounds)
{
    static const pthread_once_t fresh = PTHREAD_ONCE_INIT;
    calls = 0;
    for (long i = 0; i < rounds; i++) {
        once = fresh;
        for (int j = 0; j < 3; j++)
            pthread_once(&once, begin);
    }
    return calls;
}

static void *work(void *argument)
{
    long sum = 0, number = (long)argument;
    pthread_setspecific(key, (void *)(number + 1));
    for (long i = 0; i < 20000; i++)
        sum = sum * 31 + (i ^ number);
    char *text = malloc(100 + number);
    sum += snprintf(text, 100, "%ld", sum);
    free(text);
    return (void *)sum;
}

long threads(long count)
{
    pthread_t thread[32];
    long sum = 0;
    calls = 0;
    pthread_key_create(&key, end_key);
    for (long i = 0; i < count; i++)
        if (pthread_create(&thread[i], 0, work, (void *)i))
            return -1;
    for (long i = 0; i < count; i++) {
        void *result;
        pthread_join(thread[i], &result);
        sum = sum * 7 + (long)result;
    }
    pthread_key_delete(key);
    return sum + calls;
}

typedef long operation(long);
static long twice(long x) { calls++; return 2 * x; }
static long square(long x) { calls++; return x * x & 0xFFFFFF; }
static long minus(long x) { calls++; return -x; }
operation *const table[] = {twice, square, minus, labs};

long through_table(long value, long rounds)
{
    calls = 0;
    for (long i = 0; i < rounds; i++)
        value = table[(value ^ i) & 3](value + i);
    return value + calls;
}

static ssize_t write_down(void *cookie, const char *text, size_t size)
{
    calls++;
    char *to = cookie;
    memcpy(to + strlen(to), text, size);
    return size;
}

/* stdio calls the functions of a stream of our own. */
long stream(char *to, long rounds)
{
    cookie_io_functions_t functions = {.write = write_down};
    calls = 0;
    FILE *file = fopencookie(to, "w", functions);
    for (long i = 0; i < rounds; i++) {
        fprintf(file, "%ld:%g;", i, i / 8.0);
        if (i % 4 == 0)
            fflush(file);
    }
    fclose(file);
    return calls;
}

/* A callback that allocates, in a function of the heap's neighbours. */
long formatted(char *to, size_t size, long value)
{
    char *text = 0;
    if (asprintf(&text, "<%ld|%s|%.3f>", value, "text", value / 3.0) < 0)
        return -1;
    long length = snprintf(to, size, "%s%s", text, text);
    free(text);
    return length;
}
