/* A stack that is used down to 6 MB, and one that is used up. */
#include <alloca.h>
#include "check.h"

static volatile int endless = 1;

static long down(long depth)
{
    volatile char frame[1000];
    frame[0] = (char)depth;
    frame[999] = 1;
    return depth ? down(depth - 1) + frame[0] + frame[999] - (char)depth : 0;
}

static long forever(long n)
{
    volatile char frame[4000];
    frame[0] = 1;
    return endless ? forever(n + 1) + frame[0] : n;
}

int main(int argc, char **argv)
{
    (void)argv;
    SHOW(down(6000));
    char *area = alloca(1 << 20);
    memset(area, 1, 1 << 20);
    SHOW(area[1 << 19]);
    fflush(stdout);
    return argc > 1 ? (int)forever(0) : 0;
}
