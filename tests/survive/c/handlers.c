// Guest code for tests/survive: signal handlers, and what they find and may do.
// Every function returns a number that is the same each time; tests compare it with a native call's.
#define _GNU_SOURCE
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile long count, seen[16];
static long hash;

// What a function has found, in order: the tests compare this.
long found[4096], found_count;

static void add(long value)
{
    hash = hash * 1000003 + value;
    found[found_count++ % 4096] = value;
}

static void install(int signal, void *handler, int flags, struct sigaction *before)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = (void (*)(int, siginfo_t *, void *))handler;
    action.sa_flags = flags;
    sigaction(signal, &action, before);
}

static void counts(int signal) { count++; }

static void looks(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    add(signal);
    add(info->si_signo == signal);
    add(info->si_code);
    add(info->si_value.sival_int);
    add(info->si_pid == getpid());
    add(uc->uc_mcontext.gregs[REG_CSGSFS] & 0xffff);
    add(uc->uc_mcontext.fpregs != 0);
    add(uc->uc_mcontext.fpregs->mxcsr & ~0x3f);
    add((long)uc->uc_mcontext.gregs[REG_RSP] > (long)context);
    add(sigismember(&uc->uc_sigmask, SIGUSR1) + 2 * sigismember(&uc->uc_sigmask, SIGUSR2));
    sigset_t now;
    sigprocmask(SIG_BLOCK, 0, &now);
    add(sigismember(&now, SIGUSR1) + 2 * sigismember(&now, SIGUSR2));
    add((long)info < (long)context + 1000 && (long)info > (long)context);
}

long what_a_handler_sees(long rounds)
{
    struct sigaction before, old;
    hash = 0;
    install(SIGUSR1, looks, SA_SIGINFO, &before);
    sigaction(SIGUSR1, 0, &old);
    add(old.sa_sigaction == looks);
    add(old.sa_flags & (SA_SIGINFO | SA_RESTART | SA_NODEFER));
    for (long i = 0; i < rounds; i++) {
        union sigval value = {.sival_int = (int)i};
        sigqueue(getpid(), SIGUSR1, value);
        raise(SIGUSR1);
        kill(getpid(), SIGUSR1);
    }
    sigaction(SIGUSR1, &before, 0);
    return hash;
}

// Blocked signals wait; real-time ones are queued in order.
static void notes(int signal, siginfo_t *info, void *context) { add(signal * 1000 + info->si_value.sival_int); }

long masks(long rounds)
{
    struct sigaction before[4];
    sigset_t some, old, pending;
    int signals[4] = {SIGUSR1, SIGUSR2, SIGRTMIN + 3, SIGRTMIN + 4};
    hash = 0;
    sigemptyset(&some);
    for (int i = 0; i < 4; i++) {
        install(signals[i], notes, SA_SIGINFO, &before[i]);
        sigaddset(&some, signals[i]);
    }
    for (long round = 0; round < rounds; round++) {
        sigprocmask(SIG_BLOCK, &some, &old);
        for (int i = 0; i < 3; i++)
            for (int s = 3; s >= 0; s--) {
                union sigval value = {.sival_int = i};
                sigqueue(getpid(), signals[s], value);
            }
        sigpending(&pending);
        for (int i = 0; i < 4; i++)
            add(sigismember(&pending, signals[i]));
        if (round % 3 == 0) {
            sigset_t without = some;
            sigdelset(&without, SIGUSR2);
            add(sigsuspend(&without));
            add(errno);
        }
        if (round % 3 == 1) {
            siginfo_t info;
            add(sigwaitinfo(&some, &info));
            add(info.si_value.sival_int);
        }
        sigprocmask(SIG_SETMASK, &old, 0);
        add(-1);
    }
    for (int i = 0; i < 4; i++)
        sigaction(signals[i], &before[i], 0);
    return hash;
}

static void nests(int signal)
{
    long depth = ++count;
    add(signal * 100 + depth);
    if (depth < 4)
        raise(signal);
    add(signal * 100 + depth);
}

long nested(int flags)
{
    struct sigaction before, now;
    hash = count = 0;
    install(SIGUSR1, nests, flags, &before);
    raise(SIGUSR1);
    sigaction(SIGUSR1, 0, &now);
    add(now.sa_handler == nests);
    add(now.sa_handler == SIG_DFL);
    sigaction(SIGUSR1, &before, 0);
    return hash;
}

long nested_nodefer(void) { return nested(SA_NODEFER); }
long nested_deferred(void)
{
    long result = nested(0);
    return result;
}

// The alternate stack.
static char other_stack[1 << 16];

static void on_other_stack(int signal, siginfo_t *info, void *context)
{
    char here;
    ucontext_t *uc = context;
    stack_t now;
    add(&here > other_stack && &here < other_stack + sizeof other_stack);
    add(uc->uc_stack.ss_sp == other_stack);
    add(uc->uc_stack.ss_flags);
    sigaltstack(0, &now);
    add(now.ss_flags);
    add(sigaltstack(&now, 0) == -1 ? errno : 0);
    if (count++ < 3)
        raise(SIGUSR2);
}

long alternate_stack(void)
{
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack}, before_stack, now;
    struct sigaction before;
    hash = count = 0;
    add(sigaltstack(&stack, &before_stack));
    sigaltstack(0, &now);
    add(now.ss_sp == other_stack && now.ss_size == sizeof other_stack && now.ss_flags == 0);
    install(SIGUSR2, on_other_stack, SA_SIGINFO | SA_ONSTACK | SA_NODEFER, &before);
    raise(SIGUSR2);
    install(SIGUSR2, on_other_stack, SA_SIGINFO, 0);
    count = 10;
    raise(SIGUSR2);
    stack.ss_size = 100;
    add(sigaltstack(&stack, 0) == -1 ? errno : 0);
    before_stack.ss_flags = SS_DISABLE;
    add(sigaltstack(&before_stack, 0));
    sigaction(SIGUSR2, &before, 0);
    return hash;
}

long reset_handler(void)
{
    struct sigaction before, now;
    count = 0;
    install(SIGUSR1, counts, SA_RESETHAND, &before);
    raise(SIGUSR1);
    sigaction(SIGUSR1, &before, &now);
    return count * 10 + (now.sa_handler == SIG_DFL);
}

// Faults that are mended: by the page, by the registers, by jumping over the instruction.
static char *page;

static void mends(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    count++;
    add(signal);
    add(info->si_code);
    switch (signal) {
    case SIGSEGV:
        add((char *)info->si_addr - page);
        add(uc->uc_mcontext.gregs[REG_TRAPNO]);
        add(uc->uc_mcontext.gregs[REG_ERR]);
        add((char *)uc->uc_mcontext.gregs[REG_CR2] - page);
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
        break;
    case SIGFPE:
        add((char *)info->si_addr == (char *)uc->uc_mcontext.gregs[REG_RIP]);
        uc->uc_mcontext.gregs[REG_RCX] = 7;
        break;
    case SIGILL:
        add((char *)info->si_addr == (char *)uc->uc_mcontext.gregs[REG_RIP]);
        uc->uc_mcontext.gregs[REG_RIP] += 2;
        uc->uc_mcontext.gregs[REG_RAX] = 1234;
        break;
    case SIGTRAP:
        uc->uc_mcontext.gregs[REG_RAX]++;
        break;
    }
}

long mended(long rounds)
{
    int signals[4] = {SIGSEGV, SIGFPE, SIGILL, SIGTRAP};
    struct sigaction before[4];
    hash = count = 0;
    for (int i = 0; i < 4; i++)
        install(signals[i], mends, SA_SIGINFO, &before[i]);
    page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 0; i < rounds; i++) {
        mprotect(page, 4096, i & 1 ? PROT_READ : PROT_NONE);
        page[i % 4096] = (char)i;
        long quotient = 1000 + i, rest = 0, value = 5, trapped = i;
        __asm__ volatile("xor %%ecx, %%ecx; div %%rcx" : "+a"(quotient), "+d"(rest) : : "rcx");
        add(quotient * 100 + rest);
        __asm__ volatile("ud2" : "+a"(value));
        add(value);
        __asm__ volatile("int3" : "+a"(trapped));
        add(trapped - i);
    }
    munmap(page, 4096);
    for (int i = 0; i < 4; i++)
        sigaction(signals[i], &before[i], 0);
    return hash + count;
}

static sigjmp_buf place;
static void jumps(int signal) { siglongjmp(place, signal); }

long jump_to_nowhere(long rounds)
{
    struct sigaction before, before_ill;
    volatile long i = 0, sum = 0;
    install(SIGSEGV, jumps, 0, &before);
    install(SIGILL, jumps, 0, &before_ill);
    sum += sigsetjmp(place, 1);
    if (i++ < rounds) {
        static const unsigned char no_code[16] = {0x06, 0x07};
        void *text = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memcpy(text, no_code, sizeof no_code);
        void (*nowhere)(void) = (void (*)(void))(i % 3 == 0 ? (void *)16 : i % 3 == 1 ? (void *)&hash : text);
        nowhere();
    }
    sigaction(SIGSEGV, &before, 0);
    sigaction(SIGILL, &before_ill, 0);
    return sum;
}

// Interrupted system calls.
static int ends[2];
static void writes(int signal)
{
    char byte = (char)++count;
    write(ends[1], &byte, 1);
}

long interrupted(int flags)
{
    struct sigaction before;
    struct itimerval once = {{0, 0}, {0, 20000}};
    char byte = 0;
    hash = count = 0;
    pipe(ends);
    install(SIGALRM, flags & SA_SIGINFO ? (void *)counts : (void *)writes, flags, &before);
    for (int i = 0; i < 3; i++) {
        setitimer(ITIMER_REAL, &once, 0);
        errno = 0;
        if (flags & SA_SIGINFO) {
            struct timespec long_time = {5, 0}, left = {0, 0};
            add(nanosleep(&long_time, &left));
            add(errno);
            add(left.tv_sec);
        } else {
            add(read(ends[0], &byte, 1));
            add(byte);
            add(errno);
        }
    }
    setitimer(ITIMER_REAL, &once, 0);
    add(pause());
    add(errno);
    sigaction(SIGALRM, &before, 0);
    close(ends[0]);
    close(ends[1]);
    return hash + count;
}

long read_restarts(void) { return interrupted(SA_RESTART); }
long read_is_interrupted(void) { return interrupted(0); }
long sleep_is_interrupted(void) { return interrupted(SA_SIGINFO); }

// A computation under a fast timer, whose handler uses every kind of register.
static volatile double sink;
static void clobbers(int signal)
{
    double values[16];
    for (int i = 0; i < 16; i++)
        values[i] = i * 1.5 + count;
    for (int i = 0; i < 16; i++)
        sink += values[i] * values[15 - i];
    long double other = 3.25L;
    for (int i = 0; i < 9; i++)
        other = other * other / 7;
    sink += (double)other;
    fesetround(FE_UPWARD);
    char *memory = malloc(100 + count % 50);
    memset(memory, 0xff, 100);
    free(memory);
    count++;
}

__attribute__((noinline)) static long compute(long rounds)
{
    double a[64], sum = 0;
    long double other = 1;
    uint64_t mixed = 88172645463325252ULL;
    char text[256], copy[256];
    for (int i = 0; i < 64; i++)
        a[i] = 1.0 / (i + 1);
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < 64; i++) {
            a[i] = a[i] * 1.0000001 + a[(i * 7) & 63] * 1e-9;
            sum += a[i];
        }
        other = other * 1.0000001L + 1e-7L;
        mixed ^= mixed << 13;
        mixed ^= mixed >> 7;
        mixed ^= mixed << 17;
        memset(text, (int)mixed, sizeof text);
        memcpy(copy, text, sizeof text);
        mixed += (unsigned char)copy[mixed & 255];
    }
    uint64_t bits, more;
    memcpy(&bits, &sum, 8);
    sum = (double)other;
    memcpy(&more, &sum, 8);
    return (long)(bits ^ more ^ mixed);
}

long computed_quietly(long rounds) { return compute(rounds); }

long computed_under_timers(long rounds)
{
    struct sigaction before;
    struct itimerval fast = {{0, 500}, {0, 500}}, none = {{0, 0}, {0, 0}};
    count = 0;
    install(SIGALRM, clobbers, SA_RESTART, &before);
    setitimer(ITIMER_REAL, &fast, 0);
    long result = compute(rounds);
    setitimer(ITIMER_REAL, &none, 0);
    sigaction(SIGALRM, &before, 0);
    return result;
}

long signals_counted(void) { return count; }

// For the test to send signals to: leaves the handler installed.
long leave_handler(void)
{
    count = 0;
    install(SIGUSR1, counts, 0, 0);
    return 0;
}

long drop_handler(void)
{
    signal(SIGUSR1, SIG_DFL);
    return count;
}

// Signals among native calls (the heap's functions run natively).
long among_native_calls(long rounds)
{
    struct sigaction before;
    struct itimerval fast = {{0, 300}, {0, 300}}, none = {{0, 0}, {0, 0}};
    count = 0;
    install(SIGALRM, counts, SA_RESTART, &before);
    setitimer(ITIMER_REAL, &fast, 0);
    long sum = 0;
    for (long i = 0; i < rounds || !count; i++) {
        char *memory = malloc(1 + i % 3000);
        memory[0] = (char)i;
        sum += memory[0];
        free(memory);
    }
    setitimer(ITIMER_REAL, &none, 0);
    sigaction(SIGALRM, &before, 0);
    return rounds;
}
