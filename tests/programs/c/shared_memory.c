/* Memory that processes share: mmap, shm_open, System V, and what synchronises them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

struct shared {
    pthread_mutex_t lock;
    sem_t semaphore;
    long counter;
};

static void share(struct shared *shared, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        pthread_mutex_lock(&shared->lock);
        shared->counter++;
        pthread_mutex_unlock(&shared->lock);
    }
}

int main(void)
{
    struct shared *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->lock, &attributes);
    sem_init(&shared->semaphore, 1, 0);
    for (int i = 0; i < 3; i++)
        if (fork() == 0) {
            share(shared, 1000);
            sem_post(&shared->semaphore);
            _exit(0);
        }
    share(shared, 1000);
    for (int i = 0; i < 3; i++)
        sem_wait(&shared->semaphore);
    SHOW(shared->counter);
    while (wait(NULL) > 0)
        ;
    char name[40];
    snprintf(name, sizeof name, "/pydbi-test-%d", getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    SHOW(fd >= 0 && ftruncate(fd, 8192) == 0);
    char *one = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *two = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    strcpy(one + 5000, "seen twice");
    printf("%s\n", two + 5000);
    SHOW(shm_unlink(name));
    int id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600);
    char *segment = shmat(id, NULL, 0);
    SHOW(segment != (void *)-1);
    if (fork() == 0) {
        strcpy(segment, "written by the child");
        _exit(0);
    }
    wait(NULL);
    printf("%s\n", segment);
    SHOW(shmdt(segment));
    SHOW(shmctl(id, IPC_RMID, NULL));
    int semaphores = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    SHOW(semop(semaphores, &(struct sembuf){0, 2, 0}, 1));
    SHOW(semctl(semaphores, 0, GETVAL));
    SHOW(semctl(semaphores, 0, IPC_RMID));
    int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    struct { long type; char text[16]; } message = {3, "queued"};
    SHOW(msgsnd(queue, &message, 7, 0));
    SHOW(msgrcv(queue, &message, 16, 3, 0));
    SHOW(msgctl(queue, IPC_RMID, NULL));
    int area = memfd_create("sealed", MFD_ALLOW_SEALING);
    SHOW(ftruncate(area, 100) | fcntl(area, F_ADD_SEALS, F_SEAL_GROW));
    TRY(ftruncate(area, 200));
    return 0;
}
