/* epoll, eventfd, timerfd, inotify, sendfile, splice, file locks, directories. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "check.h"

int main(void)
{
    struct epoll_event event = {.events = EPOLLIN}, got[4];
    int poller = epoll_create1(EPOLL_CLOEXEC), counter = eventfd(3, 0);
    event.data.u64 = 111;
    SHOW(epoll_ctl(poller, EPOLL_CTL_ADD, counter, &event));
    SHOW(epoll_wait(poller, got, 4, 1000) * 1000 + got[0].data.u64);
    unsigned long value;
    SHOW(read(counter, &value, 8) * 100 + value);
    SHOW(epoll_wait(poller, got, 4, 10));
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    event.data.u64 = 222;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    timerfd_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 5000000}}, NULL);
    SHOW(epoll_pwait(poller, got, 4, 2000, NULL) * 1000 + got[0].data.u64);
    SHOW(read(timer, &value, 8) * 100 + value);

    int watcher = inotify_init1(IN_NONBLOCK);
    SHOW(inotify_add_watch(watcher, ".", IN_CREATE | IN_DELETE | IN_CLOSE_WRITE));
    int fd = open("watched", O_RDWR | O_CREAT, 0640);
    SHOW(write(fd, "0123456789", 10));
    close(fd);
    char events[1000];
    ssize_t size = read(watcher, events, sizeof events);
    for (char *at = events; at < events + size;) {
        struct inotify_event *one = (void *)at;
        printf("%x %s\n", one->mask, one->name);
        at += sizeof *one + one->len;
    }
    fd = open("watched", O_RDWR);
    int copy = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600), pipes[2];
    off_t offset = 2;
    SHOW(sendfile(copy, fd, &offset, 5));
    SHOW(offset);
    NEED(pipe(pipes) == 0);
    SHOW(splice(fd, NULL, pipes[1], NULL, 4, 0));
    SHOW(splice(pipes[0], NULL, copy, NULL, 4, 0));
    SHOW(copy_file_range(fd, NULL, copy, NULL, 3, 0));
    struct iovec parts[] = {{"one ", 4}, {"two", 3}};
    SHOW(writev(copy, parts, 2));
    SHOW(pwritev(copy, parts, 2, 100));
    SHOW(lseek(copy, 0, SEEK_END));
    SHOW(flock(copy, LOCK_EX | LOCK_NB));
    int other = open("copy", O_RDWR);
    TRY(flock(other, LOCK_EX | LOCK_NB));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 5};
    SHOW(fcntl(copy, F_SETLK, &lock));
    SHOW(fallocate(copy, 0, 0, 300));
    struct statx facts;
    SHOW(statx(AT_FDCWD, "copy", 0, STATX_SIZE | STATX_MODE, &facts));
    SHOW(facts.stx_size * 10000 + (facts.stx_mode & 07777));
    SHOW(mkdir("folder", 0700) | symlinkat("../copy", AT_FDCWD, "folder/link"));
    SHOW(renameat2(AT_FDCWD, "watched", AT_FDCWD, "folder/moved", RENAME_NOREPLACE));
    char target[20] = "";
    SHOW(readlinkat(AT_FDCWD, "folder/link", target, sizeof target));
    struct dirent **names;
    int count = scandir("folder", &names, NULL, alphasort);
    for (int i = 0; i < count; i++)
        printf("%s %d\n", names[i]->d_name, names[i]->d_type);
    struct utsname system;
    SHOW(uname(&system));
    printf("%s %s\n", system.sysname, system.machine);
    TRY(syscall(9999));
    TRY(syscall(-1));
    struct statfs filesystem;
    SHOW(statfs("/proc", &filesystem) * 1L + filesystem.f_type);
    return 0;
}
