/* The function that docs/design/way-of-a-block.md follows.
 *
 * gcc -O2 -fcf-protection=none -fPIC -shared -o walk.so docs/walk.c
 */
static long step = 3;

__attribute__((noinline)) static long twice(long x)
{
    return 2 * x + step;
}

long walk(long n)
{
    long sum = 0;

    do
        sum += twice(n);
    while (--n);
    return sum;
}

/* Somebody may change it, so gcc must load it. */
long *where(void)
{
    return &step;
}
