/* Alternate signal stacks: used when asked for, survived overflows, nested. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>
#include "check.h"

static char area[1 << 16];
static sigjmp_buf out;
static volatile int endless = 1;

static int on_area(const void *p) { return (char *)p >= area && (char *)p < area + sizeof area; }

static void show(int number)
{
    int here = number;
    stack_t stack;
    sigaltstack(NULL, &stack);
    printf("%d on the alternate stack: %d, flags %d\n", number, on_area(&here), stack.ss_flags);
    if (number == SIGUSR1)
        raise(SIGUSR2);
}

static void overflown(int number, siginfo_t *info, void *context)
{
    (void)context;
    printf("%d at the stack's end, on the alternate stack: %d, code %d\n", number, on_area(&number), info->si_code);
    siglongjmp(out, 1);
}

static long forever(long n)
{
    volatile char frame[3000];
    frame[0] = 1;
    return endless ? forever(n + 1) + frame[0] : n;
}

static void handle(int number, int flags)
{
    struct sigaction action = {.sa_handler = show, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

int main(void)
{
    stack_t stack = {.ss_sp = area, .ss_size = sizeof area}, old;
    TRY(sigaltstack(&(stack_t){.ss_sp = area, .ss_size = 100}, NULL));
    TRY(sigaltstack(&stack, &old));
    SHOW(old.ss_flags);
    handle(SIGUSR1, 0);
    handle(SIGUSR2, 0);
    raise(SIGUSR1);
    handle(SIGUSR2, SA_ONSTACK);
    raise(SIGUSR1);
    handle(SIGUSR1, SA_ONSTACK);
    raise(SIGUSR1);
    struct sigaction action = {.sa_sigaction = overflown, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    for (int i = 0; i < 3; i++)
        if (!sigsetjmp(out, 1))
            forever(0);
    stack.ss_flags = SS_DISABLE;
    TRY(sigaltstack(&stack, NULL));
    raise(SIGUSR2);
    return 0;
}
