/* Handlers: what they are told, when they run, how they leave. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "check.h"

static sigjmp_buf out;
static volatile int calls, depth, deepest;

static void set(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    NEED(sigaction(number, &action, NULL) == 0);
}

static void tell(int number, siginfo_t *info, void *context)
{
    ucontext_t *state = context;
    printf("%s code %d value %d from us %d, stack flags %d, blocked inside %d\n", strsignal(number),
           info->si_code, info->si_code == SI_QUEUE ? info->si_value.sival_int : 0,
           info->si_pid == getpid(), state->uc_stack.ss_flags & SS_ONSTACK, sigismember(&state->uc_sigmask, number));
}

static void jump(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    siglongjmp(out, number);
}

static void nest(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    if (++depth > deepest)
        deepest = depth;
    if (++calls < 5)
        raise(number);
    depth--;
}

static void leave_errno(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    errno = 0;
    close(-1);
}

static void edit(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    ucontext_t *state = context;
    state->uc_mcontext.gregs[REG_R12] = 4242;
    sigaddset(&state->uc_sigmask, SIGHUP);
}

int main(void)
{
    set(SIGUSR1, tell, 0);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 55});
    set(SIGRTMIN + 3, tell, 0);
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i});
    set(SIGUSR2, jump, 0);
    for (int i = 0; i < 3; i++) {
        int number = sigsetjmp(out, 1);
        if (number == 0)
            kill(getpid(), SIGUSR2), puts("never");
        SHOW(number);
    }
    set(SIGUSR2, nest, SA_NODEFER);
    raise(SIGUSR2);
    SHOW(deepest * 100 + calls);
    calls = deepest = 0;
    set(SIGUSR2, nest, 0);
    raise(SIGUSR2);
    SHOW(deepest * 100 + calls);
    set(SIGUSR2, tell, SA_RESETHAND);
    raise(SIGUSR2);
    struct sigaction action;
    sigaction(SIGUSR2, NULL, &action);
    SHOW(action.sa_handler == SIG_DFL);
    set(SIGHUP, leave_errno, 0);
    raise(SIGHUP);
    SHOW(errno);
    set(SIGHUP, edit, 0);
    register long twelve __asm__("r12") = 1;
    __asm__ volatile("syscall" : "+r"(twelve) : "a"(62), "D"(getpid()), "S"(SIGHUP) : "rcx", "r11", "memory");
    SHOW(twelve);
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    SHOW(sigismember(&mask, SIGHUP));
    TRY(sigaction(SIGKILL, &(struct sigaction){.sa_handler = SIG_IGN}, NULL));
    TRY(sigaction(SIGSTOP, NULL, NULL));
    TRY(sigaction(65, NULL, NULL));
    TRY(kill(getpid(), 0));
    TRY(kill(getpid(), 99));
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    signal(SIGCHLD, SIG_IGN);
    if (fork() == 0)
        _exit(1);
    TRY(wait(NULL));
    return 0;
}
