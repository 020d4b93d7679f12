// A program to attach to: it computes on some threads and sleeps on others, until its input ends.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

NOINLINE long step(long n, double x) { return n * 3 + (long)(x * 2); }

static volatile int stopped;
static void *compute(void *argument)
{
	(void)argument;
	volatile unsigned long sum = 0;
	while (!stopped) sum = sum * 31 + 7;
	return NULL;
}

// Arguments: how many threads compute. Each line of the input is a number; its step is printed.
int main(int count, char **arguments)
{
	pthread_t ids[16];
	int threads = count > 1 ? atoi(arguments[1]) : 0;
	for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, compute, NULL);
	char line[64];
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		printf("%ld\n", step(atol(line), 1.5));
		fflush(stdout);
	}
	stopped = 1;
	for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
	return 5;
}
