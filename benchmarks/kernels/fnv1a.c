/* FNV-1a: one tight loop of a load, an xor and a multiplication.
 *
 * Stresses the backward jump of a hot loop: an engine that links blocks runs it at native speed.
 */
#include <stdint.h>

enum { LENGTH = 4096 };

static uint8_t message[LENGTH];

__attribute__((noinline))
static uint64_t fnv1a(uint64_t hash)
{
    for (int i = 0; i < LENGTH; i++) {
        hash ^= message[i];
        hash *= 0x100000001b3;
    }
    return hash;
}

uint64_t run(uint64_t n)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (int i = 0; i < LENGTH; i++)
        message[i] = (uint8_t)(i * 167 + (i >> 8));
    for (uint64_t i = 0; i < n; i++)
        hash = fnv1a(hash);
    return hash;
}
