/* Threads that are cancelled, robust mutexes, signals to a thread, timed waits. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static pthread_mutex_t robust;
static int cleaned;
static volatile sig_atomic_t in_thread;
static pthread_t target;

static sem_t ready;

static void clean(void *value) { cleaned += (int)(long)value; }

static void *wait_for_ever(void *unused)
{
    pthread_cleanup_push(clean, (void *)5);
    sem_post(&ready);
    for (;;)
        pause();
    pthread_cleanup_pop(0);
    return unused;
}

static void *compute_for_ever(void *unused)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cleanup_push(clean, (void *)7);
    sem_post(&ready);
    for (volatile long n = 0;; n++)
        ;
    pthread_cleanup_pop(0);
    return unused;
}

static void *die_with_lock(void *unused) { pthread_mutex_lock(&robust); return unused; }

static void on_signal(int number) { (void)number; in_thread = pthread_equal(pthread_self(), target); }

static void *compute(void *unused)
{
    while (!in_thread)
        ;
    return unused;
}

static void *name_itself(void *unused)
{
    char name[17];
    pthread_setname_np(pthread_self(), "worker");
    prctl(PR_GET_NAME, name);
    printf("%s\n", name);
    SHOW(gettid() != getpid());
    return unused;
}

int main(void)
{
    pthread_t thread;
    void *result;
    sem_init(&ready, 0, 0);
    static void *(*const endless[])(void *) = {wait_for_ever, compute_for_ever};
    for (int i = 0; i < 6; i++) {
        pthread_create(&thread, NULL, endless[i % 2], NULL);
        sem_wait(&ready);
        SHOW(pthread_cancel(thread));
        SHOW(pthread_join(thread, &result));
        SHOW(result == PTHREAD_CANCELED);
        SHOW(cleaned);
    }
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    pthread_create(&thread, NULL, die_with_lock, NULL);
    pthread_join(thread, NULL);
    SHOW(pthread_mutex_lock(&robust) == EOWNERDEAD);
    SHOW(pthread_mutex_consistent(&robust));
    SHOW(pthread_mutex_unlock(&robust));
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&target, NULL, compute, NULL);
    SHOW(pthread_kill(target, SIGUSR1));
    SHOW(pthread_join(target, NULL));
    pthread_create(&thread, NULL, name_itself, NULL);
    pthread_join(thread, NULL);
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 20000000;
    soon.tv_sec += soon.tv_nsec / 1000000000, soon.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    SHOW(pthread_cond_timedwait(&never, &lock, &soon) == ETIMEDOUT);
    return 0;
}
