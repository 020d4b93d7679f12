/* Mandelbrot in double: scalar SSE arithmetic with a compare and an exit in every iteration.
 *
 * Stresses vector registers that must survive block ends, with few integer instructions.
 */
#include <stdint.h>

enum { SIDE = 16, ITERATIONS = 100 };

__attribute__((noinline))
static int escape_time(double real, double imaginary)
{
    double x = 0, y = 0;
    int count = 0;

    while (count < ITERATIONS && x * x + y * y <= 4) {
        double next = x * x - y * y + real;

        y = 2 * x * y + imaginary;
        x = next;
        count++;
    }
    return count;
}

uint64_t run(uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        double left = -2 + 0.125 * (double)(i & 15);

        for (int row = 0; row < SIDE; row++)
            for (int column = 0; column < SIDE; column++)
                sum = sum * 31
                    + (uint64_t)escape_time(left + column * 0.05, -1.2 + row * 0.15);
    }
    return sum;
}
