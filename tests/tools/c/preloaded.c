// A program for preload scripts: what main returns, and what happens before and behind it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline, noclone)) int weigh(int n) { return n * 3 + 1; }
__attribute__((constructor)) static void before(void) { weigh(1); printf("before\n"); fflush(stdout); }
__attribute__((destructor)) static void behind(void) { weigh(2); printf("behind\n"); }

int main(int count, char **arguments)
{
	int sum = 0;
	for (int i = 0; i < count; i++) sum += weigh(i);
	printf("main %d\n", count);
	fflush(stdout);
	if (count > 1 && !strcmp(arguments[1], "exit")) exit(9);
	if (count > 1 && !strcmp(arguments[1], "fault")) *(volatile char *)8 = 1;
	if (count > 1 && !strcmp(arguments[1], "fork")) {
		int status;
		if (!fork()) return 33;
		wait(&status);
		printf("child %d\n", WEXITSTATUS(status));
	}
	return sum;
}
