/* brk, mmap and its relatives. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096L

static int all_zero(const char *from, long size)
{
    for (long i = 0; i < size; i++)
        if (from[i])
            return 0;
    return 1;
}

static void test_brk(void)
{
    char *start = sbrk(0);
    SHOW(sbrk(5 * PAGE) == start);
    SHOW(all_zero(start, 5 * PAGE));
    memset(start, 7, 5 * PAGE);
    SHOW((char *)sbrk(-3 * PAGE) - start);
    SHOW(sbrk(3 * PAGE) != (void *)-1);
    SHOW(start[PAGE] == 7 && all_zero(start + 3 * PAGE, 2 * PAGE - 100));
    SHOW(sbrk(0) == start + 5 * PAGE);
    SHOW(brk(start));
    TRY(sbrk(1L << 46));
}

static void test_mmap(void)
{
    char *area = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED);
    SHOW(all_zero(area, 16 * PAGE));
    memset(area, 1, 16 * PAGE);
    TRY(munmap(area + 4 * PAGE, 4 * PAGE));
    SHOW(mmap(area + 5 * PAGE, PAGE, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == area + 5 * PAGE);
    errno = 0;
    SHOW(mmap(area, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED
         && errno == EEXIST);
    SHOW(mmap(area, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area
         && all_zero(area, PAGE));
    TRY(mprotect(area + PAGE, PAGE, PROT_NONE));
    TRY(madvise(area + 2 * PAGE, PAGE, MADV_DONTNEED));
    SHOW(all_zero(area + 2 * PAGE, PAGE) && area[3 * PAGE] == 1);
    unsigned char resident[16];
    TRY(mincore(area, 3 * PAGE, resident));
    TRY(msync(area, PAGE, MS_SYNC));
    TRY(munmap(area, 16 * PAGE));
    TRY(munmap(area + 1, PAGE));
    TRY(mprotect(area, PAGE, PROT_READ));
    TRY((mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), -1));
    char *low = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    SHOW(low != MAP_FAILED && (unsigned long)low < 1UL << 32);
    char *large = mmap(NULL, 1L << 33, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SHOW(large != MAP_FAILED);
    SHOW(mprotect(large + (1L << 32), PAGE, PROT_READ | PROT_WRITE));
    large[1L << 32] = 5;
    SHOW(munmap(large, 1L << 33));
}

static void test_files(void)
{
    int fd = open("mapped", O_RDWR | O_CREAT, 0600);
    NEED(fd >= 0 && ftruncate(fd, 3 * PAGE) == 0);
    char *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGE);
    NEED(shared != MAP_FAILED && private != MAP_FAILED);
    strcpy(shared + PAGE, "through the mapping");
    printf("%s\n", private);
    strcpy(private, "mine only");
    char text[30] = "";
    SHOW(pread(fd, text, 19, PAGE));
    printf("%s, %s\n", text, shared + PAGE);
    TRY((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 77, 0));
    close(fd);
}

int main(void)
{
    puts("makes the buffer of standard output");
    test_brk();
    test_mmap();
    test_files();
    char *blocks[200];
    unsigned sum = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 200; i++)
            memset(blocks[i] = malloc(1 + i * i * 7), i, 1 + i * i * 7);
        for (int i = 0; i < 200; i++) {
            sum += (unsigned char)blocks[(i * 77) % 200][0];
            free(blocks[(i * 77) % 200]);
        }
    }
    SHOW(sum);
    return 0;
}
