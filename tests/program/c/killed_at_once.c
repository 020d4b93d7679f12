/* Children that get a signal as soon as they are there: none of it is lost, and the parent's are its own. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t parent;
static volatile sig_atomic_t in_parent;

static void handle(int number) {
    (void)number;
    if (getpid() != parent)
        _exit(7);
    in_parent++;
}

int main(void) {
    int handled = 0, stopped = 0, status;
    parent = getpid();
    signal(SIGTERM, handle);
    signal(SIGUSR1, handle);
    for (int turn = 0; turn < 60; turn++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(3); /* what was lost shows as another status */
            for (;;)
                pause();
        }
        if (turn % 2) {
            kill(child, SIGSTOP);
            waitpid(child, &status, WUNTRACED);
            stopped += WIFSTOPPED(status);
        }
        kill(parent, SIGUSR1);
        kill(child, SIGTERM);
        kill(child, SIGCONT);
        waitpid(child, &status, 0);
        handled += WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    printf("%d children, %d stopped before; %d signals of the parent\n", handled, stopped, (int)in_parent);
    return 0;
}
