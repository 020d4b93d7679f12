/* fork, vfork, posix_spawn, clone and exec, with what comes back; the output is the same natively. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static int shared = 1;

static void say(const char *what, long value) {
    printf("%s: %ld\n", what, value);
}

static void wait_for(const char *what, pid_t child) {
    int status = -1;
    if (waitpid(child, &status, 0) != child)
        printf("%s: no child, errno %d\n", what, errno);
    else if (WIFSIGNALED(status))
        printf("%s: signal %d\n", what, WTERMSIG(status));
    else
        printf("%s: status %d\n", what, WEXITSTATUS(status));
}

static void forks(void) {
    pid_t child = fork();
    if (!child) {
        shared = 2;
        _exit(getppid() > 1 ? 11 : 12);
    }
    wait_for("fork", child);
    say("not shared", shared);
    child = fork();
    if (!child) {
        pid_t grandchild = fork();
        if (!grandchild)
            exit(3);
        wait_for("grandchild", grandchild);
        exit(4);
    }
    wait_for("child", child);
    child = fork();
    if (!child)
        abort();
    wait_for("abort", child);
    child = fork();
    if (!child)
        *(volatile int *)8 = 0;
    wait_for("fault", child);
    child = fork();
    if (!child)
        for (;;)
            pause();
    kill(child, SIGKILL);
    wait_for("killed", child);
}

static void vforks(void) {
    pid_t child = vfork();
    if (!child)
        _exit(5);
    wait_for("vfork", child);
    child = vfork();
    if (!child) {
        execl("/bin/sh", "sh", "-c", "exit 6", (char *)0);
        _exit(127);
    }
    wait_for("vfork and exec", child);
    volatile int error = 0;
    child = vfork();
    if (!child) {
        execl("/nowhere/at/all", "x", (char *)0);
        error = errno;
        _exit(7);
    }
    wait_for("vfork without exec", child);
    say("its error", error);
}

static void spawns(void) {
    pid_t child = -1;
    char *yes[] = {"sh", "-c", "exit 8", 0};
    say("posix_spawn", posix_spawn(&child, "/bin/sh", 0, 0, yes, environ));
    wait_for("spawned", child);
    say("posix_spawn of nothing", posix_spawn(&child, "/nowhere", 0, 0, yes, environ));
    say("posix_spawnp", posix_spawnp(&child, "true", 0, 0, yes, environ));
    wait_for("spawned", child);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    char *echo[] = {"sh", "-c", "echo to 2 >&2", 0};
    int spawned = posix_spawn(&child, "/bin/sh", &actions, 0, echo, environ);
    wait_for("spawned", child);
    say("with actions", spawned);
    say("system", system("exit 9"));
    FILE *pipe = popen("echo through a pipe", "r");
    char line[64] = "";
    fgets(line, sizeof line, pipe);
    printf("%s", line);
    say("pclose", pclose(pipe));
}

static int on_new_stack(void *argument) {
    return *(int *)argument + shared;
}

static void clones(void) {
    static char stack[65536] __attribute__((aligned(16)));
    int value = 20, pidfd = -1;
    pid_t child = clone(on_new_stack, stack + sizeof stack, SIGCHLD, &value);
    wait_for("clone", child);
    child = clone(on_new_stack, stack + sizeof stack, SIGCHLD | CLONE_VM | CLONE_VFORK, &value);
    wait_for("clone like vfork", child);
    pid_t parents = 0;
    static pid_t childs;
    child = syscall(SYS_clone, SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, 0, &parents, &childs, 0);
    if (!child)
        _exit(childs == getpid());
    wait_for("child has its id", child);
    say("parent has it", parents == child);
    struct clone_args arguments = {.flags = CLONE_PIDFD, .pidfd = (unsigned long)&pidfd, .exit_signal = SIGCHLD};
    child = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (!child)
        _exit(21);
    say("pidfd", fcntl(pidfd, F_GETFD));
    wait_for("clone3", child);
    close(pidfd);
}

static void execs(const char *self) {
    pid_t child = fork();
    if (!child)
        execl("/proc/self/exe", "myself", "again", (char *)0);
    wait_for("executed itself", child);
    child = fork();
    if (!child) {
        execl(self, "x", (char *)0);
        _exit(1);
    }
    wait_for("without arguments", child);
    say("not there", execl("/nowhere", "x", (char *)0));
    say("errno", errno);
    say("a folder", execl("/", "x", (char *)0));
    say("errno", errno);
    fflush(stdout);
    signal(SIGUSR1, SIG_IGN);
    execl("/bin/sh", "sh", "-c", "kill -USR1 $$; echo ignored; kill -PIPE $$; echo not ignored", (char *)0);
}

int main(int count, char **arguments) {
    setvbuf(stdout, 0, _IONBF, 0);
    if (count < 2)
        return 30;
    if (!strcmp(arguments[1], "again")) {
        printf("%s, executed again\n", arguments[0]);
        return 31;
    }
    forks();
    vforks();
    spawns();
    clones();
    execs(arguments[0]);
}
