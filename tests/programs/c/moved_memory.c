/* Code that is moved, replaced and unmapped while it is used. */
#define _GNU_SOURCE
#include <signal.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096L
typedef int (*function)(void);

static const unsigned char RETURN[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov eax, n; ret */
static sigjmp_buf out;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    siglongjmp(out, number);
}

static void put(void *where, int n)
{
    memcpy(where, RETURN, sizeof RETURN);
    memcpy((char *)where + 1, &n, 4);
}

static char *page_with(int n)
{
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    put(page, n);
    mprotect(page, PAGE, PROT_READ | PROT_EXEC);
    return page;
}

static int call(void *code)
{
    int number = sigsetjmp(out, 1);
    return number ? -number : ((function)code)();
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    char *one = page_with(1), *two = page_with(2);
    SHOW(call(one) * 10 + call(two));
    char *moved = mremap(one, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, two);
    SHOW(moved == two);
    SHOW(call(two));
    SHOW(call(one));
    mprotect(two, PAGE, PROT_READ);
    SHOW(call(two));
    mprotect(two, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    for (int i = 0; i < 20; i++) {
        put(two, 100 + i);
        NEED(call(two) == 100 + i);
    }
    SHOW(call(two));
    munmap(two, PAGE);
    SHOW(call(two));
    char *again = mmap(two, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    put(again, 55);
    SHOW(call(two));
    madvise(again, PAGE, MADV_DONTNEED);
    put(again, 56);
    SHOW(call(two));
    return 0;
}
