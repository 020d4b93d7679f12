/* Descriptors: closing all of them, low numbers first, limits, duplicates. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static FILE *result;
#define NOTE(expression) fprintf(result, "%s = %ld\n", #expression, (long)(expression))

int main(void)
{
    int first = open("/dev/null", O_RDWR);
    SHOW(first);
    SHOW(dup(first));
    TRY(fcntl(first, F_DUPFD, 10));
    TRY(dup2(first, 200));
    TRY(dup3(first, 200, O_CLOEXEC));
    SHOW(fcntl(200, F_GETFD));
    TRY(dup2(first, first));
    TRY(dup2(77, 78));
    TRY(close(77));
    int open_ones = 0;
    for (int fd = 0; fd < 1024; fd++)
        open_ones += fcntl(fd, F_GETFD) != -1;
    SHOW(open_ones);
    SHOW(lseek(first, 0, SEEK_CUR));
    struct rlimit limit;
    SHOW(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 220;
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    int opened = 0;
    while (dup(first) != -1)
        opened++;
    SHOW(errno == EMFILE);
    SHOW(opened);
    SHOW(close_range(3, 190, 0));
    SHOW(open("/dev/null", O_RDONLY));
    fflush(stdout);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    result = fopen("result", "w");
    NOTE(fileno(result));
    for (int fd = 0; fd < 1024; fd++)
        if (fd != fileno(result))
            close(fd);
    NOTE(open("/dev/null", O_RDWR));
    NOTE(open("/dev/null", O_RDWR));
    NOTE(open("/dev/null", O_RDWR));
    NOTE(dup(0));
    fflush(result);
    pid_t child = fork();
    if (child == 0) {
        execlp("sh", "sh", "-c", "echo shell >> result; exit 5", NULL);
        _exit(1);
    }
    int status;
    NOTE(waitpid(child, &status, 0) == child);
    NOTE(WEXITSTATUS(status));
    NOTE(access("result", R_OK));
    struct stat facts;
    NOTE(fstat(0, &facts) == 0 && S_ISCHR(facts.st_mode));
    NOTE(close_range(0, ~0U, CLOSE_RANGE_CLOEXEC));
    NOTE(fcntl(0, F_GETFD));
    fclose(result);
    NEED(fork() == 0 || wait(&status) > 0);
    for (int fd = 0; fd < 4096; fd++)
        close(fd);
    return 0;
}
