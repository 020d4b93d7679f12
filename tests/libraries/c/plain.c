/* Guest code for tests/libraries: what compilers make of C, one function for each trait. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* qsort and bsearch */

int compare_ints(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

void sort_ints(int *values, size_t count) { qsort(values, count, sizeof *values, compare_ints); }

int *find_int(const int *values, size_t count, int key)
{
    return bsearch(&key, values, count, sizeof *values, compare_ints);
}

/* setjmp and longjmp, from deep below and through qsort */

static jmp_buf target;

__attribute__((noinline)) static void descend(int depth)
{
    if (depth == 0)
        longjmp(target, 42);
    descend(depth - 1);
    __asm__ volatile("" ::: "memory");
}

int jump_out(int depth)
{
    volatile int before = depth * 3;
    int value = setjmp(target);
    if (value == 0)
        descend(depth);
    return value + before;
}

static int compare_and_jump(const void *a, const void *b)
{
    static int count;
    if (++count % 20 == 0)
        longjmp(target, count);
    return compare_ints(a, b);
}

int jump_out_of_qsort(int *values, size_t count)
{
    int value = setjmp(target);
    if (value == 0)
        qsort(values, count, sizeof *values, compare_and_jump);
    return value;
}

int jump_often(int rounds)
{
    volatile int sum = 0, round = 0;
    setjmp(target);
    if (round < rounds) {
        sum += round++;
        descend(round % 7);
    }
    return sum;
}

/* a bytecode interpreter with computed gotos, and one with a switch */

int64_t interpret_goto(const uint8_t *code)
{
    static const void *labels[] = {&&stop, &&push, &&add, &&mul, &&dup, &&loop, &&drop};
    int64_t stack[64], *top = stack;
    const uint8_t *start = code;
    int rounds = 0;
#define NEXT goto *labels[*code++]
    NEXT;
push: *top++ = *code++; NEXT;
add: top--; top[-1] += *top; NEXT;
mul: top--; top[-1] = (int64_t)((uint64_t)top[-1] * (uint64_t)*top % 1000003); NEXT;
dup: *top = top[-1]; top++; NEXT;
drop: top--; NEXT;
loop: if (++rounds < code[0]) code = start + code[1]; else code += 2; NEXT;
stop: return top[-1];
}

int64_t interpret_switch(const uint8_t *code)
{
    int64_t stack[64], *top = stack;
    const uint8_t *start = code;
    int rounds = 0;
    for (;;)
        switch (*code++) {
        case 0: return top[-1];
        case 1: *top++ = *code++; break;
        case 2: top--; top[-1] += *top; break;
        case 3: top--; top[-1] = (int64_t)((uint64_t)top[-1] * (uint64_t)*top % 1000003); break;
        case 4: *top = top[-1]; top++; break;
        case 5: if (++rounds < code[0]) code = start + code[1]; else code += 2; break;
        case 6: top--; break;
        case 7: top[-1] = -top[-1]; break;
        case 8: top[-1] ^= 0x5555; break;
        default: abort();
        }
}

/* recursion, function pointers, variable arguments, errno, thread-local variables */

__attribute__((noinline)) uint64_t fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

uint64_t ackermann(uint64_t m, uint64_t n)
{
    if (m == 0)
        return n + 1;
    return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

static int64_t plus(int64_t a, int64_t b) { return a + b; }
static int64_t minus(int64_t a, int64_t b) { return a - b; }
static int64_t times(int64_t a, int64_t b) { return a * b; }
static int64_t (*const operations[])(int64_t, int64_t) = {plus, minus, times};

int64_t by_pointers(int64_t start, int count)
{
    for (int i = 0; i < count; i++)
        start = operations[i % 3](start, i) & 0xFFFFFFFF;
    return start;
}

static int64_t sum_variable(int count, ...)
{
    va_list list;
    double doubles = 0;
    int64_t sum = 0;
    va_start(list, count);
    for (int i = 0; i < count; i++) {
        sum += va_arg(list, int64_t);
        doubles += va_arg(list, double);
    }
    va_end(list);
    return sum * 1000 + (int64_t)doubles;
}

int64_t variable_arguments(int64_t a)
{
    return sum_variable(12, a, 1.5, a + 1, 2.5, a + 2, 3.0, a + 3, 4.0, a + 4, 5.0, a + 5, 6.0,
                        a + 6, 7.0, a + 7, 8.0, a + 8, 9.0, a + 9, 10.0, a + 10, 11.0, a + 11, 12.0);
}

static __thread uint64_t local_count = 5;
static __thread char local_text[64];

uint64_t thread_local_variables(const char *text)
{
    strcpy(local_text, text);
    local_count += strlen(local_text);
    return local_count;
}

int error_number(int first)
{
    errno = first;
    int seen = errno;
    if (close(-1) == 0)
        return -1;
    for (volatile int i = 0; i < 10; i++)
        ;
    return seen * 1000 + errno;
}

/* floating point: x87 and SSE */

long double x87_series(int terms)
{
    long double sum = 0;
    for (int i = 1; i <= terms; i++)
        sum += 1.0L / ((long double)i * i);
    return sum;
}

void x87_store(int terms, long double *to) { *to = x87_series(terms); }

int x87_digits(int terms, char *to, size_t size)
{
    return snprintf(to, size, "%.25Lf %Le", x87_series(terms), x87_series(terms) * 1e-4000L);
}

double polynomial(double x, float y)
{
    double result = 0;
    for (int i = 0; i < 20; i++)
        result = result * x + (double)y / (i + 1);
    return result;
}

/* formatting: the caller makes the argument list */

int format_all(char *to, size_t size, const char *text, int64_t number, double value)
{
    return snprintf(to, size, "%s|%10d|%-10lx|%+lld|%o|%c|%%|%.10g|%e|%a|%08.3f|%5.2s|%p|%zu|%Lf|%n",
                    text, (int)number, (long)number, (long long)-number, (unsigned)number, 'x',
                    value, value, value, value, text, (void *)to, (size_t)number,
                    (long double)value, &(int){0});
}

/* what -O3 -march=native vectorises */

void vector_work(const float *a, const float *b, float *c, const int32_t *p, int32_t *q, size_t n)
{
    for (size_t i = 0; i < n; i++)
        c[i] = a[i] * b[i] + c[i] / (b[i] * b[i] + 1.0f);
    for (size_t i = 0; i < n; i++)
        q[i] = p[i] > 100 ? p[i] * 3 : p[i] + q[i];
}

uint64_t vector_sums(const uint8_t *bytes, const double *values, size_t n, double *result)
{
    uint64_t sum = 0;
    double total = 0, most = values[0];
    for (size_t i = 0; i < n; i++)
        sum += (uint64_t)bytes[i] * bytes[n - 1 - i];
    for (size_t i = 0; i < n; i++) {
        total += values[i] * values[i];
        most = values[i] > most ? values[i] : most;
    }
    result[0] = total;
    result[1] = most;
    return sum;
}

void matrix_product(const double *a, const double *b, double *c, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            c[i * n + j] = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            for (int j = 0; j < n; j++)
                c[i * n + j] += a[i * n + k] * b[k * n + j];
}
