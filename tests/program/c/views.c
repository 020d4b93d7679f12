/* What a program finds in /proc about itself; the output is the same natively. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const selves[] = {"/proc/self/", "/proc/thread-self/", ""};

static void show(const char *self, const char *name) {
    char path[PATH_MAX], data[65536];
    snprintf(path, sizeof path, "%s%s", self, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    long size = 0, part;
    while ((part = read(file, data + size, sizeof data - size)) > 0)
        size += part;
    printf("%s: closed on exec %d, content %.*s\n", name, fcntl(file, F_GETFD), (int)size, data);
    for (long place = 0; place < size; place++)
        if (!data[place])
            printf("zero at %ld\n", place);
    close(file);
}

static void executable(const char *self) {
    char path[PATH_MAX], target[PATH_MAX] = "";
    struct stat here, there;
    snprintf(path, sizeof path, "%sexe", self);
    long size = readlink(path, target, sizeof target);
    printf("exe: %ld %s, first bytes %ld\n", size, target, readlink(path, target, 5));
    printf("no room: %ld\n", (long)readlink(path, target, 0));
    printf("at: %ld\n", (long)readlinkat(AT_FDCWD, path, target, sizeof target));
    printf("same file: %d\n", !stat(path, &here) && !stat(target, &there) && here.st_ino == there.st_ino);
    printf("a link: %d\n", !lstat(path, &here) && S_ISLNK(here.st_mode));
    int file = open(path, O_RDONLY);
    printf("opened: %d\n", !fstat(file, &here) && here.st_ino == there.st_ino);
    close(file);
    printf("may be executed: %d\n", access(path, X_OK));
    struct statx more;
    printf("statx: %d\n", !statx(AT_FDCWD, path, 0, STATX_INO, &more) && more.stx_ino == there.st_ino);
}

/* Whether the mappings are there that a program has, with their permissions. */
static void mappings(const char *self) {
    char path[PATH_MAX], line[PATH_MAX + 200], target[PATH_MAX] = "";
    snprintf(path, sizeof path, "%smaps", self);
    readlink("/proc/self/exe", target, sizeof target - 1);
    FILE *file = fopen(path, "r");
    int text = 0, data = 0, stack = 0, heap = 0, vdso = 0, here = 0, python = 0, descending = 0;
    unsigned long last = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long start, end, offset, inode;
        char permissions[5], name[PATH_MAX] = "";
        unsigned major, minor;
        if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %s", &start, &end, permissions, &offset, &major,
                   &minor, &inode, name) < 7)
            printf("strange: %s", line);
        descending += start < last;
        last = end;
        text += !strcmp(name, target) && !strcmp(permissions, "r-xp") && inode;
        data += !strcmp(name, target) && !strcmp(permissions, "rw-p");
        stack += !strcmp(name, "[stack]") && (unsigned long)&file >= start && (unsigned long)&file < end;
        heap += !strcmp(name, "[heap]");
        vdso += !strcmp(name, "[vdso]") && !strcmp(permissions, "r-xp");
        here += (unsigned long)mappings >= start && (unsigned long)mappings < end && permissions[2] == 'x';
        python += strstr(name, "python") != 0;
    }
    fclose(file);
    printf("text %d, data %d, stack %d, heap %d, vdso %d, this %d, python %d, descending %d\n", text, data,
           stack, heap, vdso, here, python, descending);
}

int main(int count, char **arguments, char **variables) {
    char own[40];
    free(malloc(100000));
    snprintf(own, sizeof own, "/proc/%d/", getpid());
    for (int which = 0; which < 3; which++) {
        const char *self = *selves[which] ? selves[which] : own;
        show(self, "cmdline");
        show(self, "environ");
        executable(self);
        mappings(self);
    }
    unsigned long vector[200] = {0};
    int file = open("/proc/self/auxv", O_RDONLY);
    long size = read(file, vector, sizeof vector);
    for (long place = 0; place < size / 8; place += 2)
        if (vector[place] != getauxval(vector[place]) && vector[place] && getauxval(vector[place]) != vector[place + 1])
            printf("different: %lu\n", vector[place]);
    printf("%ld at the end, entry %d\n", vector[size / 8 - 1] + vector[size / 8 - 2], getauxval(AT_ENTRY) != 0);
    FILE *name = fopen("/proc/self/comm", "r");
    char line[100] = "";
    printf("comm %s", fgets(line, sizeof line, name));
    printf("not ours: %d\n", open("/proc/self/nothing", O_RDONLY));
    return count;
}
