/* Limits of memory that a program sets for itself, and meets. */
#include <sys/mman.h>
#include <sys/resource.h>
#include "check.h"

#define MIB (1L << 20)

static int available(long size)
{
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return 0;
    munmap(area, size);
    return 1;
}

static void limit(int resource, long size)
{
    struct rlimit limit = {size, RLIM_INFINITY};
    SHOW(setrlimit(resource, &limit));
    SHOW(getrlimit(resource, &limit));
    SHOW(limit.rlim_cur);
    SHOW(available(MIB));
    SHOW(available(512 * MIB));
    SHOW(malloc(512 * MIB) == NULL);
    limit.rlim_cur = RLIM_INFINITY;
    SHOW(setrlimit(resource, &limit));
    SHOW(available(512 * MIB));
}

int main(void)
{
    limit(RLIMIT_AS, 256 * MIB);
    limit(RLIMIT_DATA, 64 * MIB);
    return 0;
}
