/* Writes to the address in `place`, and ends with what is there then. */
#include <stdlib.h>

int main(int count, char **arguments) {
    volatile int *place = (volatile int *)strtoul(arguments[1], 0, 0);
    *place = 5;
    return *place + 1;
}
