/* posix_spawn with actions and attributes, and its errors; system; clone with a stack of its own. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

extern char **environ;

static int finished(pid_t child)
{
    int status;
    NEED(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int in_clone(void *value) { return *(int *)value + 1; }

int main(void)
{
    pid_t child;
    SHOW(posix_spawnp(&child, "sh", NULL, NULL, (char *[]){"sh", "-c", "exit 12", NULL}, environ));
    SHOW(finished(child));
    SHOW(posix_spawn(&child, "/no/such", NULL, NULL, (char *[]){"x", NULL}, environ) == ENOENT);
    SHOW(posix_spawn(&child, "/etc/passwd", NULL, NULL, (char *[]){"x", NULL}, environ) == EACCES);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "made", O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    SHOW(posix_spawnp(&child, "sh", &actions, NULL, (char *[]){"sh", "-c", "echo out; echo err >&2", NULL}, environ));
    SHOW(finished(child));
    posix_spawn_file_actions_t bad;
    posix_spawn_file_actions_init(&bad);
    posix_spawn_file_actions_addopen(&bad, 5, "/no/such/folder/file", O_WRONLY | O_CREAT, 0600);
    SHOW(posix_spawnp(&child, "true", &bad, NULL, (char *[]){"true", NULL}, environ) == ENOENT);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t set;
    sigfillset(&set);
    posix_spawnattr_setsigmask(&attributes, &set);
    posix_spawnattr_setsigdefault(&attributes, &set);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    signal(SIGUSR1, SIG_IGN);
    SHOW(posix_spawnp(&child, "sh", NULL, &attributes,
                      (char *[]){"sh", "-c", "exec grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status", NULL}, environ));
    SHOW(finished(child));
    for (int i = 0; i < 10; i++) {
        NEED(posix_spawnp(&child, "true", NULL, NULL, (char *[]){"true", NULL}, environ) == 0);
        NEED(finished(child) == 0);
    }
    int value = 30;
    char *stack = malloc(1 << 16);
    SHOW(finished(clone(in_clone, stack + (1 << 16), SIGCHLD, &value)));
    SHOW(finished(clone(in_clone, stack + (1 << 16), CLONE_VM | CLONE_VFORK | SIGCHLD, &value)));
    TRY(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0));
    return 0;
}
