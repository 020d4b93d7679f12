/* fork, vfork, exec, wait, pipes, process groups. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static volatile int shared_by_vfork;

static void show_status(const char *what, int status)
{
    if (WIFEXITED(status))
        printf("%s: exit %d\n", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf("%s: signal %d\n", what, WTERMSIG(status));
    else if (WIFSTOPPED(status))
        printf("%s: stopped by %d\n", what, WSTOPSIG(status));
    else
        printf("%s: continued %d\n", what, WIFCONTINUED(status));
    fflush(stdout);
}

static int tree(int depth)
{
    int status, sum = 1;
    if (depth == 0)
        return 1;
    for (int i = 0; i < 2; i++) {
        if (fork() == 0)
            _exit(tree(depth - 1));
        wait(&status);
        sum += WEXITSTATUS(status);
    }
    return sum;
}

static void test_exec(char **argv)
{
    char *words[] = {argv[0], "again", "with words", NULL}, *variables[] = {"ONLY=this", NULL};
    int status;
    if (fork() == 0)
        execve(argv[0], words, variables);
    wait(&status);
    show_status("exec", status);
    if (vfork() == 0) {
        shared_by_vfork = 5;
        execve(argv[0], words, variables);
        _exit(1);
    }
    wait(&status);
    show_status("vfork and exec", status);
    if (vfork() == 0)
        _exit(execl("/no/such/program", "x", NULL) == -1 && errno == ENOENT ? 44 : 45);
    wait(&status);
    show_status("vfork and failed exec", status);
    TRY(execl("/", "x", NULL));
    TRY(execl("/etc/passwd", "x", NULL));
    int fd = open(argv[0], O_RDONLY);
    if (fork() == 0)
        fexecve(fd, words, variables);
    wait(&status);
    show_status("fexecve", status);
    close(fd);
}

static void test_pipes(void)
{
    int there[2], back[2], status;
    char text[100];
    NEED(pipe(there) == 0 && pipe2(back, O_CLOEXEC) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(there[1]);
        dup2(there[0], 0);
        dup2(back[1], 1);
        execlp("tr", "tr", "a-z", "A-Z", NULL);
    }
    close(there[0]), close(back[1]);
    SHOW(write(there[1], "some text\n", 10));
    close(there[1]);
    SHOW(read(back[0], text, sizeof text));
    text[10] = 0;
    printf("%s", text);
    waitpid(child, &status, 0);
    show_status("tr", status);
    FILE *command = popen("echo popen; exit 9", "r");
    printf("%s", fgets(text, sizeof text, command));
    show_status("popen", pclose(command));
    fflush(stdout);
    show_status("system", system("kill -USR1 $$"));
}

static void test_stops(void)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    show_status("child", status);
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    show_status("child", status);
    SHOW(waitpid(child, &status, WNOHANG));
    kill(child, SIGKILL);
    siginfo_t info;
    SHOW(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    SHOW(info.si_code == CLD_KILLED && info.si_status == SIGKILL);
    struct rusage usage;
    SHOW(wait4(child, &status, 0, &usage) == child);
    TRY(wait(NULL));
}

static void at_fork_end(void) { printf("atexit in the child\n"); }

int main(int argc, char **argv)
{
    extern char **environ;
    int status;
    if (argc > 1) {
        printf("executed: %s %s\n", argv[2], environ[0]);
        return 17;
    }
    SHOW(tree(3));
    test_exec(argv);
    test_pipes();
    test_stops();
    printf("buffered once\n");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        SHOW(getppid() != getpid());
        SHOW(setsid() == getpid());
        SHOW(getpgrp() == getpid());
        atexit(at_fork_end);
        exit(21);
    }
    waitpid(child, &status, 0);
    show_status("child", status);
    return 0;
}
