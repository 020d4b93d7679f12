// A system call that waits for ever, and a handler of SIGUSR1 that does not begin it again, or does.
// waits CALL [restart]: prints "ready", then the call's result and how often the handler has run.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t hits;
static int word;
static void counts(int signal) { hits++; }

static long waits(const char *what)
{
    char byte;
    if (!strcmp(what, "read"))
        return read(0, &byte, 1);
    if (!strcmp(what, "futex"))
        return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL);
    if (!strcmp(what, "child"))
        return waitpid(-1, NULL, 0);
    return -1;
}

int main(int count, char **words)
{
    struct sigaction action = {.sa_handler = counts, .sa_flags = count > 2 ? SA_RESTART : 0};
    sigaction(SIGUSR1, &action, 0);
    pid_t child = strcmp(words[1], "child") ? 0 : fork();
    if (child == 0 && !strcmp(words[1], "child")) {
        read(0, &child, 1); // until the test closes the pipe
        _exit(0);
    }
    write(1, "ready\n", 6);
    long result = waits(words[1]);
    printf("%ld %d, %d times\n", result, result < 0 ? errno : 0, hits);
    return 0;
}
