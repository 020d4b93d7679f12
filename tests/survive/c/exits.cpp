// Guest code for tests/survive: ways out of functions that are no returns.
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <ucontext.h>
#include <unistd.h>

namespace {

int alive = 0;

struct Guard {
    Guard() { alive++; }
    ~Guard() { alive--; }
};

jmp_buf place;
sigjmp_buf signal_place;
volatile int handled = 0;

__attribute__((noinline)) void jump_from(int depth)
{
    if (depth == 0)
        longjmp(place, 7);
    jump_from(depth - 1);
    __asm__ volatile("" ::: "memory");
}

} // namespace

// setjmp and longjmp, many times, with the heap's functions, which run natively, in between.
extern "C" long jumps(long rounds)
{
    volatile long sum = 0, round = 0;
    int value = setjmp(place);
    sum += value;
    if (round < rounds) {
        round++;
        char *text = static_cast<char *>(malloc(100 + round));
        memset(text, 1, 100);
        sum += text[50];
        free(text);
        jump_from(round % 9);
    }
    return sum;
}

// A function of somebody else's, which calls back: longjmp leaves it.
extern "C" long through(void (*call)(void (*)()), long rounds)
{
    volatile long sum = 0, round = 0;
    sum += setjmp(place);
    if (round++ < rounds)
        call([] { jump_from(3); });
    return sum;
}

extern "C" void call_it(void (*function)()) { function(); }

extern "C" __attribute__((noinline)) void thrower(int depth)
{
    Guard guard;
    if (depth == 0)
        throw std::runtime_error("from below");
    thrower(depth - 1);
    __asm__ volatile("" ::: "memory");
}

extern "C" __attribute__((noinline)) void middle(void (*function)(int), int depth)
{
    Guard guard;
    function(depth);
    __asm__ volatile("" ::: "memory");
}

extern "C" __attribute__((noinline)) long catcher(int depth)
{
    alive = 0;
    try {
        middle(thrower, depth);
        return -1;
    } catch (const std::runtime_error &error) {
        return alive * 1000 + static_cast<long>(strlen(error.what()));
    }
}

extern "C" long catch_often(int rounds)
{
    long sum = 0;
    for (int i = 0; i < rounds; i++)
        sum += catcher(i % 11);
    return sum;
}

// Coroutines by swapcontext.

namespace {

ucontext_t here, there[3];
long produced;
char stacks[3][1 << 16];

void produce(int number)
{
    for (long i = 0;; i++) {
        std::string text(20 + number, 'a');
        produced = produced * 31 + i * (number + 1) + static_cast<long>(text.size());
        swapcontext(&there[number], number < 2 ? &there[number + 1] : &here);
    }
}

} // namespace

extern "C" long coroutines(long rounds)
{
    produced = 0;
    for (int i = 0; i < 3; i++) {
        getcontext(&there[i]);
        there[i].uc_stack.ss_sp = stacks[i];
        there[i].uc_stack.ss_size = sizeof stacks[i];
        there[i].uc_link = &here;
        makecontext(&there[i], reinterpret_cast<void (*)()>(produce), 1, i);
    }
    for (long i = 0; i < rounds; i++)
        swapcontext(&here, &there[0]);
    return produced;
}

// Signal handlers of the guest's own.

extern "C" long handler_returns(long rounds)
{
    struct sigaction action = {}, before;
    action.sa_handler = [](int) { handled = handled + 1; };
    sigaction(SIGUSR2, &action, &before);
    handled = 0;
    for (long i = 0; i < rounds; i++)
        raise(SIGUSR2);
    sigaction(SIGUSR2, &before, nullptr);
    return handled;
}

template <class Cause> static long jump_back(int number, int value, long rounds, Cause cause)
{
    static int jumped;
    struct sigaction action = {}, before;
    jumped = value;
    action.sa_handler = [](int) { siglongjmp(signal_place, jumped); };
    sigaction(number, &action, &before);
    volatile long sum = 0, round = 0;
    sum += sigsetjmp(signal_place, 1);
    if (round++ < rounds)
        cause();
    sigaction(number, &before, nullptr);
    return sum;
}

extern "C" long handler_jumps(long rounds)
{
    return jump_back(SIGUSR2, 5, rounds, [] { raise(SIGUSR2); });
}

extern "C" long handler_of_a_fault(long rounds)
{
    return jump_back(SIGSEGV, 3, rounds, [] { *reinterpret_cast<volatile int *>(8) = 1; });
}
