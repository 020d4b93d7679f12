/* Prints its arguments and variables and ends with their number. */
#include <stdio.h>

int main(int count, char **arguments, char **variables) {
    for (int place = 0; place < count; place++)
        printf("%s\n", arguments[place]);
    while (*variables)
        printf("%s\n", *variables++);
    return count;
}
