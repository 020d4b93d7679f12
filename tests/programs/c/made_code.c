/* A small JIT: code made in writable executable memory, made executable later, modified while it
   runs, and written through a second mapping. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096L
typedef int (*unary)(int);

/* lea eax, [rdi + n]; ret */
static int put_adder(unsigned char *where, int n)
{
    static const unsigned char code[] = {0x8d, 0x87, 0, 0, 0, 0, 0xc3};
    memcpy(where, code, sizeof code);
    memcpy(where + 2, &n, 4);
    return sizeof code;
}

static void *map(int protection)
{
    void *page = mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(page != MAP_FAILED);
    return page;
}

static void rewritten(void)
{
    unsigned char *page = map(PROT_READ | PROT_WRITE | PROT_EXEC);
    long sum = 0;
    for (int i = 0; i < 500; i++) {
        put_adder(page + (i % 3) * 16, i);
        sum += ((unary)(page + (i % 3) * 16))(i);
    }
    SHOW(sum);
}

static void write_then_execute(void)
{
    unsigned char *page = map(PROT_READ | PROT_WRITE);
    long sum = 0;
    for (int i = 0; i < 50; i++) {
        NEED(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
        put_adder(page, i * 3);
        NEED(mprotect(page, PAGE, PROT_READ | PROT_EXEC) == 0);
        sum += ((unary)page)(i);
    }
    SHOW(sum);
}

/* The code writes the immediate of an instruction ahead of it in the same block:
   mov dword [rip + 1], edi; mov eax, 0; ret */
static void modifies_itself(void)
{
    static const unsigned char code[] = {0x89, 0x3d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
    unsigned char *page = map(PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(page, code, sizeof code);
    long sum = 0;
    for (int i = 0; i < 40; i++)
        sum = sum * 3 % 1000003 + ((unary)page)(i);
    SHOW(sum);
}

static void mapped_twice(void)
{
    int fd = memfd_create("code", 0);
    NEED(fd >= 0 && ftruncate(fd, PAGE) == 0);
    unsigned char *writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *executable = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    NEED(writable != MAP_FAILED && executable != MAP_FAILED);
    long sum = 0;
    for (int i = 0; i < 100; i++) {
        put_adder(writable, i * i);
        sum += ((unary)executable)(i);
    }
    SHOW(sum);
    put_adder(writable, 0);
    SHOW(pwrite(fd, "\xb8\x07\0\0\0\xc3", 6, 0));
    SHOW(((unary)executable)(1));
}

static void read_into_code(void)
{
    unsigned char *page = map(PROT_READ | PROT_WRITE | PROT_EXEC), code[16];
    int fds[2];
    NEED(pipe(fds) == 0);
    long sum = 0;
    for (int i = 0; i < 20; i++) {
        int size = put_adder(code, 1000 * i);
        NEED(write(fds[1], code, size) == size && read(fds[0], page, size) == size);
        sum += ((unary)page)(i);
    }
    SHOW(sum);
}

static void crosses_pages(void)
{
    unsigned char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long sum = 0;
    for (int i = 0; i < 10; i++) {
        put_adder(pages + PAGE - 3, i);
        sum += ((unary)(pages + PAGE - 3))(i);
    }
    munmap(pages + PAGE, PAGE);
    put_adder(pages + PAGE - 7, 70);
    SHOW(sum + ((unary)(pages + PAGE - 7))(1));
}

int main(void)
{
    rewritten();
    write_then_execute();
    modifies_itself();
    mapped_twice();
    read_into_code();
    crosses_pages();
    return 0;
}
