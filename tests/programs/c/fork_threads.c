/* fork and exec while other threads run; pthread_atfork; exit_group with threads alive. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static atomic_int running;
static int prepared, in_parent, in_child;

static void prepare(void) { prepared++; }
static void parent(void) { in_parent++; }
static void child(void) { in_child++; }

static void *compute(void *unused)
{
    atomic_fetch_add(&running, 1);
    for (volatile unsigned n = 0;; n++)
        ;
    return unused;
}

static void *block(void *unused)
{
    char byte;
    int fds[2];
    NEED(pipe(fds) == 0);
    atomic_fetch_add(&running, 1);
    read(fds[0], &byte, 1);
    return unused;
}

static void *add(void *n) { return (void *)((long)n + 1); }

int main(void)
{
    pthread_t thread;
    void *result;
    int status;
    pthread_atfork(prepare, parent, child);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread, NULL, i % 2 ? compute : block, NULL);
    while (running < 4)
        usleep(1000);
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            pthread_create(&thread, NULL, add, (void *)(long)i);
            pthread_join(thread, &result);
            _exit((int)(long)result * 10 + in_child);
        }
        NEED(waitpid(pid, &status, 0) == pid);
        SHOW(WEXITSTATUS(status));
    }
    SHOW(prepared * 100 + in_parent * 10 + in_child);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_create(&thread, NULL, compute, NULL);
        execlp("echo", "echo", "executed from a process with threads", NULL);
    }
    waitpid(pid, &status, 0);
    SHOW(status);
    return 0;
}
