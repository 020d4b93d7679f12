/* A walk over a shuffled linked list that is larger than the first-level data cache.
 *
 * Stresses code that waits for memory: an engine's own data (lookup tables, saved state) competes
 * for the same cache.
 */
#include <stdint.h>

enum { NODES = 2048, STRIDE = 1229 };

struct node {
    struct node *next;
    uint64_t value;
    uint64_t padding[6];
};

static struct node nodes[NODES];

/* STRIDE is odd and NODES a power of two, so that one cycle visits every node. */
static void link_nodes(void)
{
    for (uint64_t i = 0; i < NODES; i++) {
        nodes[i].next = &nodes[(i + STRIDE) % NODES];
        nodes[i].value = i * 2654435761;
    }
}

__attribute__((noinline))
static uint64_t walk(struct node *node, uint64_t sum)
{
    for (int i = 0; i < NODES; i++, node = node->next) {
        sum += node->value;
        if (sum & 1)
            node->value ^= sum >> 3;
    }
    return sum;
}

uint64_t run(uint64_t n)
{
    uint64_t sum = 0;

    link_nodes();
    for (uint64_t i = 0; i < n; i++)
        sum = walk(&nodes[i % NODES], sum);
    return sum;
}
