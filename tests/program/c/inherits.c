// A child that is forked has none of the signals that wait for its parent. Prints who has handled one.
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t hits;
static void counts(int signal) { hits++; }

int main(void)
{
    int status;
    signal(SIGUSR1, counts);
    pid_t child = fork();
    if (!child)
        _exit(hits);
    waitpid(child, &status, 0);
    printf("parent %d, child %d\n", hits, WEXITSTATUS(status));
    return 0;
}
