/* What a program is given at its start, and the order of what runs before and after main. */
#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

extern char **environ;
static int constructed;
static __thread int thread_variable = 77;

__attribute__((constructor(101))) static void first(void) { constructed = 1; }
__attribute__((constructor(102))) static void second(void) { constructed = constructed * 10 + 2; }
__attribute__((destructor)) static void last(void) { puts("destructor"); }
static void at_exit_1(void) { puts("atexit 1"); }
static void at_exit_2(void) { puts("atexit 2"); }

#ifdef __GLIBC__
static int resolved_1(int n) { return n + 1000; }
static void *resolve(void) { return (void *)resolved_1; }
int indirect(int) __attribute__((ifunc("resolve")));
#else
static int indirect(int n) { return n + 1000; }
#endif

static void show_auxv(void)
{
    static const struct { int type; const char *name; } plain[] = {
        {AT_PAGESZ, "AT_PAGESZ"}, {AT_PHENT, "AT_PHENT"}, {AT_PHNUM, "AT_PHNUM"},
        {AT_FLAGS, "AT_FLAGS"},   {AT_UID, "AT_UID"},     {AT_EUID, "AT_EUID"},
        {AT_GID, "AT_GID"},       {AT_EGID, "AT_EGID"},   {AT_SECURE, "AT_SECURE"},
        {AT_CLKTCK, "AT_CLKTCK"}, {AT_HWCAP, "AT_HWCAP"}, {AT_HWCAP2, "AT_HWCAP2"},
    };
    static const int pointers[] = {AT_PHDR, AT_ENTRY, AT_RANDOM, AT_EXECFN, AT_PLATFORM, AT_SYSINFO_EHDR};
    for (unsigned i = 0; i < sizeof plain / sizeof *plain; i++)
        printf("%s %lu\n", plain[i].name, getauxval(plain[i].type));
    for (unsigned i = 0; i < sizeof pointers / sizeof *pointers; i++)
        printf("%d given: %d\n", pointers[i], getauxval(pointers[i]) != 0);
    printf("%s %s\n", (char *)getauxval(AT_PLATFORM), strrchr((char *)getauxval(AT_EXECFN), '/'));
    printf("vdso %.3s\n", (char *)getauxval(AT_SYSINFO_EHDR) + 1);
}

static int compare(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

int main(int argc, char **argv, char **envp)
{
    for (int i = 0; i < argc; i++)
        printf("argv[%d] %s\n", i, i ? argv[i] : strrchr(argv[i], '/'));
    int count = 0;
    while (environ[count])
        count++;
    qsort(environ, count, sizeof *environ, compare);
    for (int i = 0; i < count; i++)
        printf("%s\n", environ[i]);
    printf("envp %d, SHOWN %s\n", envp == environ, getenv("SHOWN"));
    printf("constructed %d, indirect %d, thread_variable %d\n", constructed, indirect(7), thread_variable);
    show_auxv();
    for (int i = 1; i < 32; i++) {
        struct sigaction action;
        sigaction(i, NULL, &action);
        if (action.sa_handler != SIG_DFL || action.sa_flags)
            printf("signal %d has a handler: %d\n", i, action.sa_handler != SIG_IGN);
    }
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int i = 1; i < 65; i++)
        if (sigismember(&mask, i) == 1)
            printf("signal %d is blocked\n", i);
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    printf("stack %ld, aligned %d\n", (long)limit.rlim_cur, (int)((unsigned long)argv % 8));
    for (int fd = 0; fd < 20; fd++)
        if (lseek(fd, 0, SEEK_CUR) != -1 || fd < 3)
            printf("descriptor %d is open\n", fd);
    char *block = malloc(300000);
    memset(block, 'x', 300000);
    printf("%c\n", block[299999]);
    free(block);
    atexit(at_exit_1);
    atexit(at_exit_2);
    return 7;
}
