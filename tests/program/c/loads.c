/* Loads its argument twice, and ends with what the function in it returns. */
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments) {
    int sum = 0;
    for (int turn = 0; turn < 2; turn++) {
        void *library = dlopen(arguments[1], RTLD_NOW);
        int (*plugged)(int) = (int (*)(int))dlsym(library, "plugged");
        sum += plugged(10 + turn);
        dlclose(library);
    }
    return sum;
}
