/* Four threads that compute at once, each its own function, with floating point and vectors. */
#include <math.h>
#include <pthread.h>
#include "check.h"

enum { SIZE = 4000 };

static void *primes(void *result)
{
    long sum = 0;
    for (int n = 2; n < 6000; n++) {
        int prime = 1;
        for (int d = 2; d * d <= n && prime; d++)
            prime = n % d != 0;
        sum += prime ? n : 0;
    }
    *(double *)result = sum;
    return NULL;
}

static void *waves(void *result)
{
    double sum = 0;
    for (int i = 0; i < 60000; i++)
        sum += sin(i * 0.001) * exp(-i * 0.0001) + fmod(i, 7.3);
    *(double *)result = sum;
    return NULL;
}

static int compare(const void *a, const void *b) { return *(int *)a - *(int *)b; }

static void *sorted(void *result)
{
    int *numbers = malloc(SIZE * sizeof *numbers);
    unsigned seed = 1;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < SIZE; i++)
            numbers[i] = (seed = seed * 1103515245 + 12345) >> 8 & 0xffff;
        qsort(numbers, SIZE, sizeof *numbers, compare);
        *(double *)result += numbers[SIZE / 3] * (round + 1);
    }
    free(numbers);
    return NULL;
}

static void *texts(void *result)
{
    char text[200];
    unsigned long hash = 5381;
    for (int i = 0; i < 4000; i++) {
        int size = snprintf(text, sizeof text, "%d %08.3f %s %#x", i, i / 7.0, "word", i * 31);
        for (int k = 0; k < size; k++)
            hash = hash * 33 ^ (unsigned char)text[k];
    }
    *(double *)result = hash % 1000000007;
    return NULL;
}

int main(void)
{
    static void *(*const functions[])(void *) = {primes, waves, sorted, texts};
    pthread_t threads[12];
    double results[12] = {0};
    for (int i = 0; i < 12; i++)
        NEED(pthread_create(&threads[i], NULL, functions[i % 4], &results[i]) == 0);
    for (int i = 0; i < 12; i++) {
        pthread_join(threads[i], NULL);
        printf("%d %.9g\n", i, results[i]);
    }
    return 0;
}
