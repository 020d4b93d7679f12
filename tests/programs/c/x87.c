/* x87: long double arithmetic, control and status words, and the processor's rounding. */
#include <fenv.h>
#include <math.h>
#include "check.h"

int main(void)
{
    volatile long double x = 1.0L, y = 3.0L;
    long double sum = 0;
    for (int i = 1; i < 200; i++)
        sum += sinl(i * x) / (i + y) + sqrtl(i) * expl(-i / 40.0L);
    printf("%.21Lg %.21Lg %La\n", sum, x / y, fmal(x, y, sum));
    static const int roundings[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    for (int i = 0; i < 4; i++) {
        volatile double a = 1.0, b = 3.0;
        fesetround(roundings[i]);
        printf("%a %La %ld %.0f\n", a / b, x / y, lrint(-2.5), rint(2.5));
    }
    fesetround(FE_TONEAREST);
    feclearexcept(FE_ALL_EXCEPT);
    volatile double zero = 0.0, one = 1.0;
    double inf = one / zero;
    SHOW(fetestexcept(FE_DIVBYZERO) != 0);
    double nan = inf - inf;
    SHOW(fetestexcept(FE_INVALID) != 0);
    printf("%f %d\n", inf, isnan(nan));
    unsigned short control;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    SHOW(control);
    unsigned mxcsr;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    SHOW(mxcsr & 0xffc0);
    fenv_t saved;
    feholdexcept(&saved);
    volatile double tiny = 1e-300;
    tiny *= tiny;
    SHOW(fetestexcept(FE_UNDERFLOW) != 0);
    fesetenv(&saved);
    SHOW(fetestexcept(FE_UNDERFLOW) != 0);
    return 0;
}
