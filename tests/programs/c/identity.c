/* Who a program believes to be: names, /proc/self, ids, limits. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"

static void show_file(const char *path)
{
    char text[4096];
    int fd = open(path, O_RDONLY);
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    printf("%s:", path);
    for (ssize_t i = 0; i < size; i++)
        putchar(text[i] ? text[i] : '|');
    putchar('\n');
}

static int lines_with(const char *path, const char *word)
{
    char line[1000];
    int found = 0;
    FILE *file = fopen(path, "r");
    while (fgets(line, sizeof line, file))
        found += strstr(line, word) != NULL;
    fclose(file);
    return found;
}

int main(int argc, char **argv)
{
    char path[4096] = "", again[4096] = "", name[17] = "";
    printf("%s %s %d\n", program_invocation_short_name, strrchr(argv[0], '/'), argc);
    SHOW(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
    printf("%s\n", strrchr(path, '/'));
    snprintf(again, sizeof again, "/proc/%d/exe", getpid());
    char third[4096] = "";
    SHOW(readlink(again, third, sizeof third - 1) > 0 && strcmp(third, path) == 0);
    struct stat by_link, by_name;
    SHOW(stat("/proc/self/exe", &by_link) == 0 && stat(path, &by_name) == 0);
    SHOW(by_link.st_ino == by_name.st_ino);
    SHOW(realpath("/proc/self/exe", again) != NULL && strcmp(again, path) == 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    char magic[4] = "";
    SHOW(read(fd, magic, 4) == 4 && memcmp(magic, "\177ELF", 4) == 0);
    SHOW(fstat(fd, &by_link) == 0 && by_link.st_ino == by_name.st_ino);
    close(fd);
    show_file("/proc/self/cmdline");
    show_file("/proc/self/comm");
    show_file("/proc/thread-self/comm");
    prctl(PR_GET_NAME, name);
    printf("%s\n", name);
    prctl(PR_SET_NAME, "renamed");
    show_file("/proc/self/comm");
    SHOW(lines_with("/proc/self/maps", "/identity") >= 3);
    SHOW(lines_with("/proc/self/maps", "libc.so.6") >= 3);
    SHOW(lines_with("/proc/self/maps", "[stack]"));
    SHOW(lines_with("/proc/self/maps", "[vdso]"));
    SHOW(lines_with("/proc/self/maps", "libpython"));
    SHOW(lines_with("/proc/self/maps", "python3"));
    SHOW(lines_with("/proc/self/status", "Threads:\t1\n"));
    SHOW(getpid() == (int)strtol(path[0] ? (readlink("/proc/self", again, 99), again) : "", NULL, 10));
    SHOW(gettid() == getpid());
    SHOW(umask(022));
    SHOW(access("/proc/self/exe", X_OK));
    return 0;
}
