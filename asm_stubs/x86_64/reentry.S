# Native code that calls instrumented code: the function's page may not be executed, the fault handler
# finds the address in a table and comes here, and Python runs the function under a VM.
#
# What the caller had is stored in a block on its stack, laid out like the beginning of a context. Python
# runs on a stack of its own meanwhile, for the function needs the caller's.

        .include "context.inc"
        .include "macros.inc"
        .include "ucontext.inc"
        .text

.set SEGV_ACCERR, 2
.set FETCH, 0x10                        # of a page fault's error code (SDM vol. 3, 4.7)
.set SYS_mmap, 9
.set SYS_mprotect, 10
.set SYS_munmap, 11
.set PROT_READ_WRITE, 3
.set MAP_STACK_FLAGS, 0x24022           # MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK
.set PYTHON_STACK, 0x800000
.set RED_ZONE, 128                      # what lies below rsp in the middle of a function stays
.set STATE_SIZE, CTX_OPMASK + 64
.set MXCSR_DEFAULT, 0x1F80

        .globl  reentry_fault, reentry_table

# SIGSEGV (edi, rsi = siginfo_t *, rdx = ucontext_t *) in code that is not the cache's. If it is a fetch
# from a page in the table, go on in `reenter` with the address below the red zone, else pass it on.
reentry_fault:
        lea     r9, reentry_table[rip]
        mov     r9, [r9]
        mov     rcx, [r9]
        test    rcx, rcx
        jz      not_reentered
        cmp     dword ptr [rsi + SI_CODE], SEGV_ACCERR
        jne     not_reentered
        test    dword ptr [rdx + UC_ERR], FETCH
        jz      not_reentered
        mov     rax, [rdx + UC_RIP]
1:      cmp     qword ptr [rcx + 8], 0
        je      not_reentered
        cmp     rax, [rcx]
        jb      2f
        cmp     rax, [rcx + 8]
        jb      3f
2:      add     rcx, 16
        jmp     1b
3:      mov     rcx, [rdx + UC_RSP]
        sub     rcx, RED_ZONE + 8
        mov     [rcx], rax
        mov     [rdx + UC_RSP], rcx
        lea     rax, reenter[rip]
        mov     [rdx + UC_RIP], rax
        ret

# All registers are the caller's but rsp, which points to the address that was called.
reenter:
        push    rbx
        pushfq
        push    rax
        mov     rax, rsp
        sub     rsp, STATE_SIZE
        and     rsp, -64
        mov     rbx, rsp
        store_gprs_but_rax_rbx_rsp
        mov     rcx, [rax]
        mov     [rbx + CTX_RAX], rcx
        mov     rcx, [rax + 8]
        mov     [rbx + CTX_EFLAGS], rcx
        mov     rcx, [rax + 16]
        mov     [rbx + CTX_RBX], rcx
        mov     rcx, [rax + 24]
        mov     [rbx + CTX_RIP], rcx
        lea     rcx, [rax + 32 + RED_ZONE]
        mov     [rbx + CTX_RSP], rcx
        push    EFLAGS_FIXED
        popfq
        fxsave64 [rbx + CTX_FPR]        # the xmm registers too, where nobody reads them
        fninit
        mov     dword ptr [rsp - 8], MXCSR_DEFAULT
        ldmxcsr [rsp - 8]
        lea     r12, reentry_table[rip]
        mov     r12, [r12]
        mov     qword ptr [rbx + CTX_UPPER_IN_USE], 0
        cmp     qword ptr [r12 + 24], 1
        jb      5f
        ja      6f
        store_vectors avx
        jmp     7f
5:      store_vectors sse
        jmp     7f
6:      store_vectors avx512
7:      call    [r12 + 16]              # __errno_location
        mov     r13, rax
        mov     eax, [rax]
        mov     [rbx + CTX_GUEST_ERRNO], rax

        xor     edi, edi
        mov     esi, PYTHON_STACK
        mov     edx, PROT_READ_WRITE
        mov     r10d, MAP_STACK_FLAGS
        mov     r8, -1
        xor     r9d, r9d
        mov     eax, SYS_mmap
        syscall
        cmp     rax, -4096
        jae     9f
        mov     r14, rax
        mov     rdi, rax                # the lowest page is the guard
        mov     esi, 4096
        xor     edx, edx
        mov     eax, SYS_mprotect
        syscall
        lea     rsp, [r14 + PYTHON_STACK]
        mov     rdi, rbx
        call    [r12 + 8]               # the callback in Python
        mov     rsp, rbx
        mov     rdi, r14
        mov     esi, PYTHON_STACK
        mov     eax, SYS_munmap
        syscall
        mov     eax, [rbx + CTX_GUEST_ERRNO]
        mov     [r13], eax

# Python has left rsp on two words: rbx, and the address to go on at.
        fxrstor64 [rbx + CTX_FPR]
        cmp     qword ptr [r12 + 24], 1
        jb      5f
        ja      6f
        load_vectors avx
        jmp     7f
5:      load_vectors sse
        jmp     7f
6:      load_vectors avx512
7:      push    [rbx + CTX_EFLAGS]
        popfq
        mov     rax, [rbx + CTX_RAX]
        mov     rcx, [rbx + CTX_RCX]
        mov     rdx, [rbx + CTX_RDX]
        mov     rsi, [rbx + CTX_RSI]
        mov     rdi, [rbx + CTX_RDI]
        mov     r8,  [rbx + CTX_R8]
        mov     r9,  [rbx + CTX_R9]
        mov     r10, [rbx + CTX_R10]
        mov     r11, [rbx + CTX_R11]
        mov     r12, [rbx + CTX_R12]
        mov     r13, [rbx + CTX_R13]
        mov     r14, [rbx + CTX_R14]
        mov     r15, [rbx + CTX_R15]
        mov     rbp, [rbx + CTX_RBP]
        mov     rsp, [rbx + CTX_RSP]
        pop     rbx
        ret
9:      ud2                             # no memory for a stack

        .balign 8
# The address of five words, which Python fills in: where the pairs (low, high) of addresses are that
# lead here, ended by zeros; the callback; __errno_location; 0 for SSE, 1 for AVX, 2 for AVX-512.
reentry_table:
        .quad   0
