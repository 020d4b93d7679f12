// A program whose instructions are counted and traced.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

// Two instructions before the loop, two in it, one behind.
__asm__(".globl turns\n.type turns, @function\n"
	"turns:\n mov %rdi, %rcx\n xor %eax, %eax\n"
	"1: inc %eax\n loop 1b\n ret\n.size turns, . - turns\n");
extern long turns(long count);

NOINLINE long called(long n) { return turns(n) * 2; }

int main(int count, char **arguments)
{
	long n = count > 1 ? atol(arguments[1]) : 1;
	long result = called(n);
	printf("%ld\n", result);
	if (count > 2 && !strcmp(arguments[2], "fork")) {
		fflush(stdout);
		if (!fork()) {
			called(7);
			_exit(3);
		}
		wait(NULL);
	}
	if (count > 2 && !strcmp(arguments[2], "exec")) {
		fflush(stdout);
		execl("/nowhere/at/all", "x", NULL);
		execl("/bin/sh", "sh", "-c", "echo from sh; exit 4", NULL);
	}
	if (count > 2 && !strcmp(arguments[2], "close")) fclose(stderr);
	if (count > 2 && !strcmp(arguments[2], "fault")) *(volatile char *)8 = 1;
	if (count > 2 && !strcmp(arguments[2], "unload")) dlclose(dlopen("libz.so.1", RTLD_NOW));
	return (int)(n % 1000);
}
