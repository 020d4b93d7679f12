// Which segment bases the kernel accepts.
#include <asm/prctl.h>
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    unsigned long bases[] = {1ul << 46, (1ul << 47) - 4096, 1ul << 47, 1ul << 62, -1ul, 0};
    for (int i = 0; i < 6; i++) {
        long result = syscall(SYS_arch_prctl, ARCH_SET_GS, bases[i]);
        printf("%lx: %ld %d\n", bases[i], result, result ? errno : 0);
    }
    printf("%ld\n", syscall(SYS_arch_prctl, ARCH_SET_FS, 1ul << 63));
    return 0;
}
