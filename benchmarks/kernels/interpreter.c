/* A bytecode interpreter that dispatches with computed goto.
 *
 * Stresses indirect jumps with many targets and only a few instructions between two of them:
 * the hardest case for an engine's lookup of jump targets.
 */
#include <stdint.h>

enum opcode { PUSH, LOAD, STORE, ADD, MULTIPLY, AND, XOR, SHIFT, DECREMENT, JUMP_NONZERO, HALT };

/* do { a = (a * 31 + c) ^ a >> 7;  b = (a & 255) * c + b;  c--; } while (c);
 * Variables: 0 is a, 1 is b, 2 is c. A jump's operand is the index it goes to.
 */
static const uint8_t program[] = {
    LOAD, 0, PUSH, 31, MULTIPLY, LOAD, 2, ADD, LOAD, 0, SHIFT, 7, XOR, STORE, 0,
    LOAD, 0, PUSH, 255, AND, LOAD, 2, MULTIPLY, LOAD, 1, ADD, STORE, 1,
    DECREMENT, 2, LOAD, 2, JUMP_NONZERO, 0, HALT,
};

__attribute__((noinline))
static uint64_t interpret(const uint8_t *code, uint64_t variables[3])
{
    static const void *const handlers[] = {
        [PUSH] = &&push, [LOAD] = &&load, [STORE] = &&store, [ADD] = &&add,
        [MULTIPLY] = &&multiply, [AND] = &&and, [XOR] = &&xor, [SHIFT] = &&shift,
        [DECREMENT] = &&decrement, [JUMP_NONZERO] = &&jump_nonzero, [HALT] = &&halt,
    };
    uint64_t stack[16];
    uint64_t *top = stack;
    const uint8_t *next = code;

#define DISPATCH() goto *handlers[*next++]
    DISPATCH();
push:
    *top++ = *next++;
    DISPATCH();
load:
    *top++ = variables[*next++];
    DISPATCH();
store:
    variables[*next++] = *--top;
    DISPATCH();
add:
    top--;
    top[-1] += *top;
    DISPATCH();
multiply:
    top--;
    top[-1] *= *top;
    DISPATCH();
and:
    top--;
    top[-1] &= *top;
    DISPATCH();
xor:
    top--;
    top[-1] ^= *top;
    DISPATCH();
shift:
    top[-1] >>= *next++;
    DISPATCH();
decrement:
    variables[*next++]--;
    DISPATCH();
jump_nonzero:
    next = *--top ? code + *next : next + 1;
    DISPATCH();
halt:
    return variables[0] ^ variables[1];
#undef DISPATCH
}

uint64_t run(uint64_t n)
{
    uint64_t variables[3] = { 1, 2, 0 };
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        variables[2] = 200;
        sum = sum * 31 + interpret(program, variables);
    }
    return sum;
}
