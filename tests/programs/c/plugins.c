/* dlopen, dlsym, dlclose and dlmopen in a loop; a library's text may come back at another place. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include "check.h"

int main(int argc, char **argv)
{
    long sum = 0;
    for (int i = 0; i < 60; i++) {
        void *handle = dlopen(argv[1], i % 2 ? RTLD_NOW : RTLD_LAZY);
        if (!handle)
            printf("%s\n", dlerror());
        NEED(handle);
        int (*plugin)(int) = (int (*)(int))dlsym(handle, "plugin");
        NEED(plugin);
        sum += plugin(i) * 1000 + plugin(i);
        NEED(dlsym(handle, "no_such_symbol") == NULL && dlerror() != NULL);
        NEED(dlclose(handle) == 0);
        NEED(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL);
    }
    SHOW(sum);
    void *libm = dlopen("libm.so.6", RTLD_NOW);
    NEED(libm);
    double (*cosine)(double) = (double (*)(double))dlsym(libm, "cos");
    printf("%.6f\n", cosine(1.0));
    Dl_info info;
    SHOW(dladdr((void *)cosine, &info) != 0);
    printf("%s\n", strrchr(info.dli_fname, '/'));
    SHOW(dlopen("no-such-library.so", RTLD_NOW) == NULL);
    void *other = dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW);
    SHOW(other != NULL);
    return argc - 2;
}
