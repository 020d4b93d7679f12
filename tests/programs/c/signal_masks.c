/* Masks: inherited, restored, kept over fork and exec; many signals in order. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static int order[20], received;
static void note(int number) { order[received++] = number; }

static void show_mask(const char *where)
{
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    printf("%s:", where);
    for (int i = 1; i < 65; i++)
        if (sigismember(&mask, i) == 1)
            printf(" %d", i);
    printf("\n");
    fflush(stdout);
}

static void during(int number)
{
    (void)number;
    show_mask("in the handler");
}

static void *in_thread(void *unused)
{
    show_mask("in a thread");
    return unused;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        struct sigaction action;
        show_mask("after exec");
        for (int i = 1; i < 65; i++)
            if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
                printf("%d is %s\n", i, action.sa_handler == SIG_IGN ? "ignored" : "handled");
        return 0;
    }
    sigset_t mask;
    sigfillset(&mask);
    SHOW(sigprocmask(SIG_BLOCK, &mask, NULL));
    show_mask("all");
    static const int numbers[] = {SIGUSR1, SIGTERM, SIGHUP, SIGUSR2, SIGINT, 40, 35, 50};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        signal(numbers[i], note);
        raise(numbers[i]);
        raise(numbers[i]);
    }
    sigset_t pending;
    sigpending(&pending);
    for (int i = 1; i < 65; i++)
        if (sigismember(&pending, i))
            printf("%d is pending\n", i);
    sigemptyset(&mask);
    SHOW(sigprocmask(SIG_SETMASK, &mask, NULL));
    SHOW(received);
    struct sigaction action = {.sa_handler = during};
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaddset(&action.sa_mask, SIGSEGV);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    show_mask("after the handler");
    sigaddset(&mask, SIGHUP);
    sigaddset(&mask, SIGFPE);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, in_thread, NULL);
    pthread_join(thread, NULL);
    signal(SIGTERM, SIG_IGN);
    fflush(stdout);
    if (fork() == 0) {
        show_mask("in a child");
        execl(argv[0], argv[0], "again", NULL);
    }
    wait(NULL);
    return 0;
}
