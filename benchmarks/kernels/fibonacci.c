/* Recursive Fibonacci: direct calls and returns, nearly nothing between them.
 *
 * Stresses what an engine does for `call` and `ret`. gcc would turn half of the recursion into
 * a loop and inline the other half, and both would hide the calls that are measured here.
 *
 * gcc-flags: -fno-inline -fno-optimize-sibling-calls
 */
#include <stdint.h>

__attribute__((noinline, noclone))
static uint64_t fibonacci(uint64_t n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

uint64_t run(uint64_t n)
{
    uint64_t sum = n;

    /* The argument depends on the sum, so that the pure call cannot leave the loop. */
    for (uint64_t i = 0; i < n; i++)
        sum = sum * 31 + fibonacci(14 + (sum >> 5 & 1));
    return sum;
}
