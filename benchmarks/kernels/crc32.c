/* CRC-32 with a table of 256 words, a byte at a time.
 *
 * Stresses a tight loop whose loads depend on one another through a RIP-relative table.
 */
#include <stdint.h>

enum { LENGTH = 4096 };

static uint32_t table[256];
static uint8_t message[LENGTH];

static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t word = i;

        for (int bit = 0; bit < 8; bit++)
            word = word >> 1 ^ (word & 1 ? 0xedb88320 : 0);
        table[i] = word;
    }
}

__attribute__((noinline))
static uint32_t crc32(uint32_t crc)
{
    crc = ~crc;
    for (int i = 0; i < LENGTH; i++)
        crc = crc >> 8 ^ table[(crc ^ message[i]) & 0xff];
    return ~crc;
}

uint64_t run(uint64_t n)
{
    uint64_t sum = 0;
    uint32_t crc = 0;

    fill_table();
    for (int i = 0; i < LENGTH; i++)
        message[i] = (uint8_t)(i * 89 + (i >> 7));
    for (uint64_t i = 0; i < n; i++) {
        crc = crc32(crc);
        sum = sum * 31 + crc;
    }
    return sum;
}
