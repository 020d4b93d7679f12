/* Accepts one password, and does not contain it: the input is scrambled before it is compared. */

static const unsigned char expected[] = {
    0xaa, 0xf5, 0x57, 0x01, 0xb0, 0xa0, 0xc3, 0x7a, 0xf6,
};

int check(const char *password)
{
    unsigned char state = 0x5a;
    unsigned i;

    for (i = 0; i < sizeof expected; i++) {
        state = (unsigned char)((state << 1 | state >> 7) + 13);
        if ((unsigned char)(password[i] ^ state) != expected[i])
            return 0;
    }
    return password[i] == 0;
}
