/* Faults with handlers that mend what was wrong, step over it, or jump out. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <ucontext.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096L
static sigjmp_buf out;
static char *page;
static long skip;
static volatile int zero;

static void set(int number, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(number, &action, NULL);
}

static void mend(int number, siginfo_t *info, void *context)
{
    ucontext_t *state = context;
    printf("%d code %d at %ld, error %lld, trap %lld, rbx %llx\n", number, info->si_code,
           (long)((char *)info->si_addr - page), state->uc_mcontext.gregs[REG_ERR],
           state->uc_mcontext.gregs[REG_TRAPNO], state->uc_mcontext.gregs[REG_RBX]);
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

static void step_over(int number, siginfo_t *info, void *context)
{
    ucontext_t *state = context;
    printf("%d code %d, at rip: %d\n", number, info->si_code,
           info->si_addr == (void *)state->uc_mcontext.gregs[REG_RIP]);
    state->uc_mcontext.gregs[REG_RIP] += skip;
}

static void jump(int number, siginfo_t *info, void *context)
{
    (void)context;
    siglongjmp(out, number * 100 + info->si_code);
}

#define CAUGHT(statement)                                                                  \
    do {                                                                                   \
        int caught = sigsetjmp(out, 1);                                                    \
        if (!caught) {                                                                     \
            statement;                                                                     \
        }                                                                                  \
        printf("%s: %d\n", #statement, caught);                                            \
    } while (0)

int main(void)
{
    page = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    set(SIGSEGV, mend);
    for (int i = 0; i < 3; i++) {
        mprotect(page, PAGE, PROT_NONE);
        long result;
        __asm__ volatile("mov $0x1234, %%ebx\n movq $7, 8(%1)\n mov 8(%1), %0\n"
                         : "=r"(result) : "r"(page) : "rbx", "memory");
        SHOW(result);
    }
    mprotect(page, PAGE, PROT_READ);
    page[5] = 1;
    SHOW(page[5]);
    set(SIGILL, step_over);
    skip = 2;
    __asm__ volatile("ud2");
    set(SIGTRAP, step_over);
    skip = 0;
    __asm__ volatile("int3");
    set(SIGSEGV, step_over);
    skip = 1;
    __asm__ volatile("hlt");
    set(SIGFPE, step_over);
    skip = 2;
    long quotient = 5;
    __asm__ volatile("xor %%edx, %%edx\n xor %%ecx, %%ecx\n div %%ecx\n" : "+a"(quotient) :: "rcx", "rdx");
    SHOW(quotient);
    set(SIGSEGV, jump);
    set(SIGBUS, jump);
    set(SIGFPE, jump);
    set(SIGILL, jump);
    set(SIGTRAP, jump);
    CAUGHT(*(volatile int *)8 = 1);
    CAUGHT(SHOW(*(volatile int *)0xffffffff81000000UL));
    CAUGHT(SHOW(*(volatile int *)0x8000000000000000UL));
    CAUGHT(((void (*)(void))16)());
    CAUGHT(((void (*)(void))page)());
    CAUGHT(((void (*)(void))0x8000000000000000UL)());
    CAUGHT(SHOW(100 / zero));
    CAUGHT(__asm__ volatile("ud2"));
    CAUGHT(__asm__ volatile("int3"));
    CAUGHT(__asm__ volatile("int $0x90"));
    CAUGHT(__asm__ volatile("cli"));
    CAUGHT(memset(page, 1, 2 * PAGE));
    SHOW(page[PAGE - 1]);
    int fd = open("short", O_RDWR | O_CREAT, 0600);
    char *file = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CAUGHT(SHOW(file[0]));
    TRY(write(fd, (void *)16, 5));
    TRY(read(0, page + PAGE, 0));
    TRY(open((char *)16, O_RDONLY));
    for (int i = 0; i < 200; i++) {
        int caught = sigsetjmp(out, 1);
        if (!caught)
            *(volatile int *)(8L + i) = 1;
        NEED(caught == SIGSEGV * 100 + SEGV_MAPERR);
    }
    signal(SIGSEGV, SIG_IGN);
    fflush(stdout);
    if (fork() == 0)
        *(volatile int *)8 = 1;
    return 0;
}
