/* Multiplication of float matrices, vectorised: AVX2 with FMA where the CPU has them, else SSE2.
 *
 * Stresses wide vector registers, and an engine that saves too little or too much of them.
 *
 * gcc-flags: -ftree-vectorize
 */
#include <stdint.h>

enum { SIDE = 32 };

typedef float matrix[SIDE][SIDE] __attribute__((aligned(32)));

static matrix left, right, product;

/* One source for both instruction sets; the loop over columns is the one that is vectorised. */
#define MULTIPLY()                                                      \
    for (int row = 0; row < SIDE; row++) {                              \
        float sums[SIDE] __attribute__((aligned(32))) = { 0 };          \
                                                                        \
        for (int k = 0; k < SIDE; k++)                                  \
            for (int column = 0; column < SIDE; column++)               \
                sums[column] += left[row][k] * right[k][column];        \
        for (int column = 0; column < SIDE; column++)                   \
            product[row][column] = sums[column];                        \
    }

__attribute__((noinline, target("avx2,fma")))
static void multiply_avx2(void)
{
    MULTIPLY()
}

__attribute__((noinline))
static void multiply_sse2(void)
{
    MULTIPLY()
}

uint64_t run(uint64_t n)
{
    int wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    uint64_t sum = 0;

    for (int row = 0; row < SIDE; row++)
        for (int column = 0; column < SIDE; column++) {
            left[row][column] = (float)((row * 7 + column * 3) % 11) / 16;
            right[row][column] = (float)((row * 5 + column * 13) % 17) / 16 - 0.5f;
        }
    for (uint64_t i = 0; i < n; i++) {
        if (wide)
            multiply_avx2();
        else
            multiply_sse2();
        /* Feed one row back, so that no multiplication is a repetition of the last. */
        for (int column = 0; column < SIDE; column++) {
            union { float number; uint32_t bits; } word = { product[i % SIDE][column] };

            sum = sum * 31 + word.bits;
            left[(i + 1) % SIDE][column] = word.number / 8;
        }
    }
    return sum;
}
