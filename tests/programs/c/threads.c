/* POSIX threads: mutexes, conditions, barriers, once, keys, thread-local variables, rwlocks. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>
#include "check.h"

enum { THREADS = 4, ROUNDS = 500, SLOTS = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_key_t key;
static sem_t semaphore;
static int queue[SLOTS], head, tail, made_once, destroyed;
static long consumed, guarded;
static atomic_long counted;
static __thread long own = 10;

static void make_once(void) { made_once++; }
static void on_destroy(void *value) { __atomic_add_fetch(&destroyed, (int)(long)value, __ATOMIC_SEQ_CST); }

static void *produce(void *unused)
{
    for (int i = 1; i <= ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        while (head - tail == SLOTS)
            pthread_cond_wait(&not_full, &lock);
        queue[head++ % SLOTS] = i;
        pthread_cond_signal(&not_empty);
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

static void *consume(void *unused)
{
    for (int i = 1; i <= ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        while (head == tail)
            pthread_cond_wait(&not_empty, &lock);
        consumed += queue[tail++ % SLOTS];
        pthread_cond_signal(&not_full);
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

static void *work(void *number)
{
    long me = (long)number;
    pthread_once(&once, make_once);
    pthread_setspecific(key, (void *)(me + 1));
    for (int i = 0; i < ROUNDS; i++) {
        own += me;
        atomic_fetch_add(&counted, 1);
        if (i % 50 == 0)
            pthread_barrier_wait(&barrier);
        if (i % 10 == me)
            pthread_rwlock_wrlock(&rwlock), guarded++, pthread_rwlock_unlock(&rwlock);
        else
            pthread_rwlock_rdlock(&rwlock), (void)guarded, pthread_rwlock_unlock(&rwlock);
        if (i % 97 == 0)
            sched_yield();
    }
    sem_post(&semaphore);
    return (void *)own;
}

static void *detached(void *unused) { sem_post(&semaphore); return unused; }

int main(void)
{
    pthread_t threads[THREADS];
    void *result;
    sem_init(&semaphore, 0, 0);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, i % 2 ? consume : produce, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    SHOW(consumed);
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_key_create(&key, on_destroy);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++)
        sem_wait(&semaphore);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        SHOW(result);
    }
    SHOW(own);
    SHOW(made_once);
    SHOW(destroyed);
    SHOW(counted);
    SHOW(guarded);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    for (int i = 0; i < 30; i++) {
        SHOW(pthread_create(&threads[0], &attributes, detached, NULL));
        sem_wait(&semaphore);
    }
    return 0;
}
