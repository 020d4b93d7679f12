/* Quicksort whose comparator is called through a function pointer, as qsort's is.
 *
 * Stresses indirect calls, returns to two call sites, recursion and badly predicted branches.
 */
#include <stdint.h>

enum { LENGTH = 256 };

typedef int (*comparator)(const uint32_t *left, const uint32_t *right);

static uint32_t numbers[LENGTH];

static int ascending(const uint32_t *left, const uint32_t *right)
{
    return (*left > *right) - (*left < *right);
}

static int descending(const uint32_t *left, const uint32_t *right)
{
    return (*left < *right) - (*left > *right);
}

static const comparator comparators[2] = { ascending, descending };

__attribute__((noinline, noclone))
static void quicksort(uint32_t *first, uint32_t *last, comparator compare)
{
    while (first < last) {
        uint32_t pivot = first[(last - first) / 2];
        uint32_t *low = first, *high = last;

        while (low <= high) {
            while (compare(low, &pivot) < 0)
                low++;
            while (compare(&pivot, high) < 0)
                high--;
            if (low <= high) {
                uint32_t swapped = *low;

                *low++ = *high;
                *high-- = swapped;
            }
        }
        quicksort(first, high, compare);
        first = low;
    }
}

uint64_t run(uint64_t n)
{
    uint32_t random = 12345;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        for (int k = 0; k < LENGTH; k++)
            numbers[k] = random = random * 1664525 + 1013904223;
        quicksort(numbers, numbers + LENGTH - 1, comparators[i & 1]);
        for (int k = 0; k < LENGTH; k++)
            sum = sum * 31 + numbers[k];
    }
    return sum;
}
