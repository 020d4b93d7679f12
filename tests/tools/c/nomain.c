// A program without a C library, and so without main.
void _start(void) { __asm__ volatile("mov $231, %eax; mov $6, %edi; syscall"); }
