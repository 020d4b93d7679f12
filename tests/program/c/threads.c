// Threads: what starts and ends them, and what comes between. Each case prints and exits as natively.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long total;

static void *computes(void *which)
{
    volatile long sum = 0;
    for (long i = 0; i < 10000; i++)
        sum += i ^ (long)which;
    pthread_mutex_lock(&mutex);
    total += sum;
    pthread_mutex_unlock(&mutex);
    return 0;
}

static void *spins(void *unused)
{
    for (volatile long i = 0;; i++)
        ;
}

static void *sleeps(void *unused)
{
    for (;;)
        pause();
}

static void *doubles(void *value) { return (void *)((long)value * 2); }

static void *crashes(void *unused)
{
    usleep(20000);
    *(volatile int *)16 = 1;
    return 0;
}

static void *exits(void *unused)
{
    usleep(30000);
    exit(7);
}

static void *forks(void *unused)
{
    int status;
    pid_t child = fork();
    if (!child) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, 0, doubles, (void *)21);
        pthread_join(thread, &result);
        _exit((int)(long)result);
    }
    waitpid(child, &status, 0);
    return (void *)(long)WEXITSTATUS(status);
}

static void *dies_with_lock(void *lock)
{
    pthread_mutex_lock(lock);
    return 0;
}

static volatile int hits;
static void counts(int signal) { hits++; }

int main(int count, char **words)
{
    pthread_t threads[4];
    void *result;
    long sum = 0;
    const char *what = words[1];
    if (!strcmp(what, "compute")) {
        for (long i = 0; i < 4; i++)
            pthread_create(&threads[i], 0, computes, (void *)i);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], 0);
        printf("%ld\n", total);
        return 3;
    }
    if (!strcmp(what, "many")) {
        for (int round = 0; round < 100; round++) {
            for (long i = 0; i < 4; i++)
                pthread_create(&threads[i], 0, doubles, (void *)i);
            for (int i = 0; i < 4; i++) {
                pthread_join(threads[i], &result);
                sum += (long)result;
            }
        }
        printf("%ld\n", sum);
        return 0;
    }
    if (!strcmp(what, "forever")) {
        pthread_create(&threads[0], 0, spins, 0);
        sleeps(0);
    }
    if (!strcmp(what, "exit in a thread") || !strcmp(what, "return from main")) {
        pthread_create(&threads[0], 0, spins, 0);
        pthread_create(&threads[1], 0, sleeps, 0);
        if (what[0] == 'r') {
            usleep(20000);
            return 9;
        }
        pthread_create(&threads[2], 0, exits, 0);
        pthread_join(threads[0], 0);
    }
    if (!strcmp(what, "crash")) {
        pthread_create(&threads[0], 0, spins, 0);
        pthread_create(&threads[1], 0, crashes, 0);
        pthread_join(threads[0], 0);
    }
    if (!strcmp(what, "fork")) {
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], 0, forks, 0);
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], &result);
            sum += (long)result;
        }
        printf("%ld\n", sum);
        return 0;
    }
    if (!strcmp(what, "cancel")) {
        pthread_create(&threads[0], 0, sleeps, 0);
        pthread_create(&threads[1], 0, sleeps, 0);
        usleep(10000);
        for (int i = 0; i < 2; i++) {
            pthread_cancel(threads[i]);
            pthread_join(threads[i], &result);
            printf("%d\n", result == PTHREAD_CANCELED);
        }
        return 0;
    }
    if (!strcmp(what, "kill")) {
        signal(SIGUSR1, counts);
        pthread_create(&threads[0], 0, spins, 0);
        pthread_create(&threads[1], 0, sleeps, 0);
        for (int i = 0; i < 100; i++) {
            int before = hits;
            pthread_kill(threads[i & 1], SIGUSR1);
            while (hits == before)
                usleep(10);
        }
        printf("%d\n", hits);
        return 0;
    }
    if (!strcmp(what, "main leaves first")) {
        pthread_create(&threads[0], 0, exits, 0);
        pthread_exit(0);
    }
    if (!strcmp(what, "main leaves")) {
        pthread_create(&threads[0], 0, sleeps, 0);
        write(1, "ready\n", 6);
        pthread_exit(0);
    }
    if (!strcmp(what, "robust")) {
        pthread_mutexattr_t kind;
        pthread_mutex_t robust;
        pthread_mutexattr_init(&kind);
        pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&robust, &kind);
        pthread_create(&threads[0], 0, dies_with_lock, &robust);
        pthread_join(threads[0], 0);
        printf("%d\n", pthread_mutex_lock(&robust));
        return 0;
    }
    return 1;
}
