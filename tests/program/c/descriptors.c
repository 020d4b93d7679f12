/* Closing everything, as daemons do; the output is the same natively. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say(const char *what, long result) {
    dprintf(1, "%s: %ld%s%s\n", what, result, result < 0 ? ", " : "", result < 0 ? strerror(errno) : "");
}

int main(int count, char **arguments) {
    say("opened", open("/dev/null", O_RDONLY));
    say("dup2", dup2(3, 250));
    say("dup3", dup3(3, 251, O_CLOEXEC));
    say("dup3 onto itself", dup3(3, 3, 0));
    say("dup2 onto itself", dup2(3, 3));
    say("dup2 of nothing", dup2(77, 3));
    say("fcntl", fcntl(3, F_DUPFD, 240));
    say("close_range", close_range(4, ~0u, 0));
    say("of no range", close_range(5, 4, 0));
    say("closed by it", fcntl(250, F_GETFD));
    say("not closed by it", fcntl(3, F_GETFD));
    for (int number = 2; number < 1024; number++)
        close(number);
    say("close of nothing", close(3));
    say("lowest free", open("/dev/null", O_RDONLY));
    close(0);
    say("stdin's place", open("/dev/null", O_RDONLY));
    if (count > 1 && dup2(1, 2) == 2) {
        close(1);
        dprintf(2, "through 2\n");
        close(2);
        close_range(0, ~0u, 0);
    }
    return 9;
}
