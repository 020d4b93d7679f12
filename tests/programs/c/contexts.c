/* setjmp, longjmp, makecontext, swapcontext. */
#include <setjmp.h>
#include <ucontext.h>
#include "check.h"

static jmp_buf back;
static ucontext_t main_context, generators[3];
static int yielded;

static void generate(int which, int step)
{
    for (int i = 0; i < 4; i++) {
        yielded = which * 100 + i * step;
        swapcontext(&generators[which], &main_context);
    }
    yielded = -which;
}

static int dive(int depth)
{
    if (depth == 0)
        longjmp(back, 33);
    return dive(depth - 1) + 1;
}

int main(void)
{
    volatile int rounds = 0;
    int value = setjmp(back);
    rounds++;
    if (value == 0)
        dive(100);
    SHOW(value);
    SHOW(rounds);
    for (int i = 0; i < 3; i++) {
        getcontext(&generators[i]);
        generators[i].uc_stack.ss_sp = malloc(65536);
        generators[i].uc_stack.ss_size = 65536;
        generators[i].uc_link = &main_context;
        makecontext(&generators[i], (void (*)(void))generate, 2, i, i + 1);
    }
    for (int turn = 0; turn < 5; turn++)
        for (int i = 0; i < 3; i++) {
            swapcontext(&main_context, &generators[i]);
            printf("%d ", yielded);
        }
    printf("\n");
    volatile int resumed = 0;
    ucontext_t here;
    getcontext(&here);
    if (resumed++ < 3)
        setcontext(&here);
    SHOW(resumed);
    return 0;
}
