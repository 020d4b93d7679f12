/* Every way to end. */
#define _GNU_SOURCE
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static void say(void) { puts("atexit"); }
static void quick(void) { puts("at_quick_exit"); fflush(stdout); }
static void *leave(void *status) { exit((int)(long)status); }
static void *outlive(void *status)
{
    usleep(50000);
    printf("the last thread\n");
    exit((int)(long)status);
}
static void on_abort(int number) { (void)number; puts("aborting"); fflush(stdout); }
static volatile int zero;

__attribute__((noinline, optimize("stack-protector-all"))) static void smash(const char *text)
{
    volatile char small[8];
    for (int i = 0; i < 64; i++)
        small[i] = text[i % 5];
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "return";
    pthread_t thread;
    atexit(say);
    at_quick_exit(quick);
    printf("%s\n", how);
    fflush(stdout);
    if (!strcmp(how, "exit"))
        exit(4);
    if (!strcmp(how, "_exit"))
        _exit(5);
    if (!strcmp(how, "quick_exit"))
        quick_exit(6);
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "kill"))
        raise(SIGKILL);
    if (!strcmp(how, "segv"))
        *(volatile int *)16 = 1;
    if (!strcmp(how, "fpe"))
        printf("%d\n", 100 / zero);
    if (!strcmp(how, "ill"))
        __asm__ volatile("ud2");
    if (!strcmp(how, "trap"))
        __asm__ volatile("int3");
    if (!strcmp(how, "pipe")) {
        int fds[2];
        NEED(pipe(fds) == 0);
        close(fds[0]);
        write(fds[1], "x", 1);
    }
    if (!strcmp(how, "term"))
        kill(getpid(), SIGTERM);
    if (!strcmp(how, "thread-exit")) {
        pthread_create(&thread, NULL, leave, (void *)7);
        for (;;)
            pause();
    }
    if (!strcmp(how, "main-thread-leaves")) {
        pthread_create(&thread, NULL, outlive, (void *)8);
        pthread_exit(NULL);
    }
    if (!strcmp(how, "abort-handled")) {
        signal(SIGABRT, on_abort);
        abort();
    }
    if (!strcmp(how, "assert"))
        assert(argc == 77);
    if (!strcmp(how, "exit-in-fork")) {
        int status;
        if (fork() == 0)
            exit(11);
        wait(&status);
        return WEXITSTATUS(status);
    }
    if (!strcmp(how, "smash"))
        smash("abcde");
    return 3;
}
