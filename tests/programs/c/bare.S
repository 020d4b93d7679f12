# A program without a libc: shows argc's digit, then ends with 9.
    .globl _start
_start:
    mov (%rsp), %rax
    add $'0', %al
    movb %al, digit(%rip)
    mov $1, %eax
    mov $1, %edi
    lea text(%rip), %rsi
    mov $length, %edx
    syscall
    mov $60, %eax
    mov $9, %edi
    syscall
    .data
text: .ascii "argc "
digit: .ascii "?\n"
    .set length, . - text
    .section .note.GNU-stack, "", @progbits
