/* System calls that a signal interrupts or that start again; timers; waiting for signals. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static volatile sig_atomic_t seen, guarded;
static int fds[2];

static void count(int number) { (void)number; seen++; }
static void guard(int number) { (void)number; guarded++; }
static void answer(int number) { (void)number; seen++; write(fds[1], "x", 1); }

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

/* An alarm soon; or again and again, so that one comes while a slow machine is in the call. */
static void alarm_in(int microseconds, int again)
{
    struct itimerval timer = {{0, again}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

#define INTERRUPTED(call)                                                                  \
    do {                                                                                   \
        alarm_in(20000, 20000);                                                            \
        TRY(call);                                                                         \
        alarm_in(0, 0);                                                                    \
    } while (0)

int main(void)
{
    char byte;
    NEED(pipe(fds) == 0);
    handle(SIGALRM, count, 0);
    INTERRUPTED(read(fds[0], &byte, 1));
    SHOW(seen > 0);
    seen = 0;
    handle(SIGALRM, answer, SA_RESTART);
    alarm_in(20000, 0);
    TRY(read(fds[0], &byte, 1));
    SHOW(seen);
    handle(SIGALRM, count, SA_RESTART);
    INTERRUPTED(pause());
    INTERRUPTED(poll(NULL, 0, 20000));
    INTERRUPTED(select(0, NULL, NULL, NULL, &(struct timeval){20, 0}));
    struct timespec left = {0}, nap = {20, 0};
    INTERRUPTED(nanosleep(&nap, &left));
    SHOW(left.tv_sec > 5);
    seen = 0;
    sigset_t only, old, pending;
    sigemptyset(&only);
    sigaddset(&only, SIGALRM);
    sigprocmask(SIG_BLOCK, &only, &old);
    alarm_in(1000, 0);
    usleep(20000);
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGALRM) * 10 + seen);
    TRY(sigsuspend(&old));
    SHOW(seen);
    alarm_in(20000, 0);
    SHOW(sigtimedwait(&only, NULL, &nap));
    nap = (struct timespec){0, 1000};
    TRY(sigtimedwait(&only, NULL, &nap));
    int fd = signalfd(-1, &only, 0);
    struct signalfd_siginfo info;
    alarm_in(20000, 0);
    SHOW(read(fd, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : -1);
    alarm_in(20000, 0);
    struct pollfd nothing = {fds[0], POLLIN, 0};
    TRY(ppoll(&nothing, 1, NULL, &old));
    sigprocmask(SIG_SETMASK, &old, NULL);
    handle(SIGCHLD, count, 0);
    handle(SIGALRM, guard, 0);
    seen = 0;
    pid_t child = fork();
    if (child == 0) {
        usleep(300000); /* until the parent reads */
        _exit(6);
    }
    alarm(10); /* so that a signal that is lost is not waited for for ever */
    TRY(read(fds[0], &byte, 1));
    SHOW(guarded);
    alarm(0);
    int status;
    SHOW(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 6);
    SHOW(seen);
    handle(SIGALRM, count, SA_RESTART);
    child = fork();
    if (child == 0) {
        usleep(60000);
        _exit(8);
    }
    sigemptyset(&only);
    sigaddset(&only, SIGCHLD);
    sigprocmask(SIG_BLOCK, &only, NULL);
    alarm_in(20000, 0);
    SHOW(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 8);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    handle(SIGRTMIN, count, 0);
    seen = 0;
    SHOW(timer_create(CLOCK_MONOTONIC, &event, &timer));
    SHOW(timer_settime(timer, 0, &(struct itimerspec){{0, 2000000}, {0, 2000000}}, NULL));
    while (seen < 5)
        ;
    SHOW(timer_delete(timer));
    alarm(100);
    SHOW(alarm(0) > 90);
    return 0;
}
