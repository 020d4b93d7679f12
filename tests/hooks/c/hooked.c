// Functions to be hooked, and native callers of them.
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

NOINLINE double mixed(int a, double b, long c, float d, int e, int f, int g, int h, long i, long double j)
{
	return a + b * c - d + e * f + g * h + i + (double)j;
}
double call_mixed(void) { return mixed(1, 2.5, 3, 4.25f, 5, 6, 7, 8, 1L << 40, 9.75L); }

NOINLINE long double wide(long double x, long double y) { return x * y + 1; }
double call_wide(void) { return (double)wide(1.5L, 3.0L); }

struct pair { double x; long n; };
struct large { long words[8]; };
NOINLINE struct pair make_pair(double x, long n) { return (struct pair){x * 2, n + 1}; }
NOINLINE struct large make_large(struct large from, long add)
{
	for (int i = 0; i < 8; i++) from.words[i] += add;
	return from;
}
double call_pair(void)
{
	struct pair p = make_pair(1.25, 41);
	struct large l = make_large((struct large){{1, 2, 3, 4, 5, 6, 7, 8}}, 10);
	return p.x + p.n + l.words[0] + l.words[7];
}

NOINLINE long add_up(int count, ...)
{
	va_list list;
	va_start(list, count);
	long sum = 0;
	for (int i = 0; i < count; i++) sum += i & 1 ? (long)va_arg(list, double) : va_arg(list, long);
	va_end(list);
	return sum;
}
long call_add_up(void) { return add_up(9, 1L, 2.0, 3L, 4.0, 5L, 6.0, 7L, 8.0, 9L); }

// The inner calls of descend come from the very place of the outer one.
NOINLINE long descend(long n);
NOINLINE long call_descend(long n) { return descend(n) * 3 + n; }
NOINLINE long descend(long n) { return n > 0 ? call_descend(n - 1) + 1 : 7; }

NOINLINE long fibonacci(long n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
long call_fibonacci(long n) { return fibonacci(n); }

NOINLINE long spin(long n)
{
	long sum = 0;
	for (long i = 0; i < n; i++) sum += (sum >> 3) ^ (i * i);
	return sum;
}
long call_spin(long n) { return spin(n); }

static volatile int spun;
static void *spin_for(void *count) { spin((long)count); spun = 1; return NULL; }
void start_spinning(long count)
{
	pthread_t id;
	spun = 0;
	if (!pthread_create(&id, NULL, spin_for, (void *)count)) pthread_detach(id);
}
int has_spun(void) { return spun; }

NOINLINE int compare(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;
	return (x > y) - (x < y);
}
void sort(long *values, long count) { qsort(values, count, sizeof *values, compare); }

NOINLINE int fail_with(int number) { errno = number; return -1; }
int call_fail_with(int number)
{
	errno = 1;
	int result = fail_with(number);
	return errno * 10 + result;
}
NOINLINE int read_errno(void) { return errno; }
int call_read_errno(int number) { errno = number; return read_errno(); }

static jmp_buf target;
NOINLINE void leap(int value) { longjmp(target, value); }
int call_leap(int value)
{
	int got = setjmp(target);
	if (got) return got * 2;
	leap(value);
	return -1;
}

// Callee-saved registers must be the caller's afterwards.
__asm__(".globl call_keeping\n"
	"call_keeping:\n"
	" push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n sub $8, %rsp\n"
	" mov $11, %ebx\n mov $12, %ebp\n mov $13, %r12d\n mov $14, %r13d\n mov $15, %r14d\n mov $16, %r15d\n"
	" call fibonacci@PLT\n"
	" add %rbx, %rax\n add %rbp, %rax\n add %r12, %rax\n add %r13, %rax\n add %r14, %rax\n add %r15, %rax\n"
	" add $8, %rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

// Functions that a jump does not fit into, or that jump back to their first bytes.
__asm__(".globl tiny, after_tiny, short_padded, back, misaligned, looping\n"
	".balign 16\n tiny: mov %edi, %eax\n ret\n after_tiny: mov %edi, %eax\n add $1, %eax\n ret\n"
	".balign 16\n short_padded: lea 5(%rdi), %eax\n ret\n .balign 16\n"
	".balign 16\n.type back, @function\n back: inc %edi\n 1: dec %edi\n lea (%rdi,%rdi), %eax\n jnz 1b\n ret\n.size back, . - back\n"
	".balign 16\n .zero 14, 0x90\n misaligned: mov %edi, %eax\n add $100, %eax\n ret\n"
	".balign 16\n looping: jmp 1f\n nop\n nop\n nop\n nop\n 1: lea 9(%rdi), %eax\n ret\n");
extern int tiny(int), short_padded(int), back(int), misaligned(int), looping(int);
int call_tiny(int n) { return tiny(n); }
int call_short_padded(int n) { return short_padded(n); }
int call_misaligned(int n) { return misaligned(n); }
int call_looping(int n) { return looping(n); }

// One byte, and a fault where nothing is.
NOINLINE int peek(const char *where) { return *where + 100000; }
static sigjmp_buf rescue;
static void on_fault(int number) { (void)number; siglongjmp(rescue, 1); }
void handle_faults(void) { signal(SIGSEGV, on_fault); }
int call_peek(const char *where) { return sigsetjmp(rescue, 1) ? -77 : peek(where); }

// Threads that Python does not know.
struct job { long from, to, result; };
static void *work(void *argument)
{
	struct job *job = argument;
	for (long n = job->from; n < job->to; n++) job->result += fibonacci(n % 12);
	return NULL;
}
long threads(long count, long each)
{
	pthread_t ids[64];
	struct job jobs[64];
	long sum = 0;
	for (long i = 0; i < count; i++) {
		jobs[i] = (struct job){i * each, (i + 1) * each, 0};
		if (pthread_create(&ids[i], NULL, work, &jobs[i])) return -1;
	}
	for (long i = 0; i < count; i++) {
		pthread_join(ids[i], NULL);
		sum += jobs[i].result;
	}
	return sum;
}

// Two hooked calls that wait for each other.
static sem_t first, second;
NOINLINE long meet(long side)
{
	sem_post(side ? &first : &second);
	sem_wait(side ? &second : &first);
	return side + 1;
}
static void *other_side(void *argument) { return (void *)meet((long)argument); }
long call_meet(void)
{
	pthread_t id;
	void *result;
	sem_init(&first, 0, 0);
	sem_init(&second, 0, 0);
	if (pthread_create(&id, NULL, other_side, (void *)1)) return -1;
	long sum = meet(0) * 10;
	pthread_join(id, &result);
	return sum + (long)result;
}

// A comparison of the whole vector state around a call.
NOINLINE void nothing(void) { __asm__ volatile("nop; nop; nop; nop; nop; nop"); }
long vectors_survive(void)
{
	unsigned char before[256], after[256];
	for (int i = 0; i < 256; i++) before[i] = (unsigned char)(i * 7 + 1);
	__asm__ volatile(
		"vmovdqu (%0), %%ymm3\n vmovdqu 32(%0), %%ymm15\n vmovdqu 64(%0), %%ymm8\n"
		"fld1\n fldpi\n push $0x5f80\n ldmxcsr (%%rsp)\n"
		"call nothing@PLT\n"
		"stmxcsr (%%rsp)\n pop %%rax\n mov %%rax, 96(%1)\n"
		"fstpl 104(%1)\n fstpl 112(%1)\n"
		"vmovdqu %%ymm3, (%1)\n vmovdqu %%ymm15, 32(%1)\n vmovdqu %%ymm8, 64(%1)\n"
		"push $0x1f80\n ldmxcsr (%%rsp)\n pop %%rax\n vzeroupper\n"
		: : "r"(before), "r"(after)
		: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "xmm3", "xmm8", "xmm15");
	double pi, one;
	memcpy(&pi, after + 104, 8);
	memcpy(&one, after + 112, 8);
	unsigned mxcsr;
	memcpy(&mxcsr, after + 96, 4);
	return !memcmp(before, after, 96) && pi > 3.14 && pi < 3.15 && one == 1.0 && (mxcsr & 0xffc0) == 0x5f80;
}
