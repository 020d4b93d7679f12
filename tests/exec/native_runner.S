# The CPU's own opinion: run a snippet natively from a given state, and store the state it leaves.
#
# Nothing here knows pydbi. The blob is position-independent and carries its two state blocks, so
# the whole guest state, rsp and flags included, is loaded and stored without a scratch register,
# and nothing is ever written on the snippet's stack.
#
# VECTOR: 1 = XMM and YMM 0-15, 2 = ZMM 0-31 and k0-7. Offsets of a state block as in
# machine_state.py: general registers by index, rip 0x80, eflags 0x88, FXSAVE 0x400, ZMM 0x600,
# opmask 0xE00.

.intel_syntax noprefix
.text

        jmp     run                     # the entry points, 8 bytes each
        .balign 8
        jmp     clobber
        .balign 8
        jmp     on_trap
        .balign 8
        jmp     finish
        .balign 8

parameters:                             # offset 32; native_runner.py writes and reads these
target:         .quad 0                 # where the snippet starts
stop:           .quad 0                 # where it ends
trace:          .quad 0                 # address of the trace buffer
trace_count:    .quad 0                 # steps recorded
trace_limit:    .quad 0                 # steps the buffer has room for
host_rsp:       .quad 0
host_mxcsr:     .long 0
host_fcw:       .long 0

# void run(void): load `state_in`, jump to `target`.
run:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        stmxcsr [rip + host_mxcsr]
        fnstcw  [rip + host_fcw]
        mov     [rip + host_rsp], rsp
        lea     rbx, [rip + state_in]
        fxrstor64 [rbx + 0x400]
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
      .if VECTOR == 2
        vmovups zmm\n, [rbx + 0x600 + 64 * \n]
      .else
        vmovups ymm\n, [rbx + 0x600 + 64 * \n]
      .endif
    .endr
    .if VECTOR == 2
      .irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vmovups zmm\n, [rbx + 0x600 + 64 * \n]
      .endr
      .irp n, 0,1,2,3,4,5,6,7
        kmovq   k\n, [rbx + 0xE00 + 8 * \n]
      .endr
    .endif
        push    [rbx + 0x88]
        popfq                           # with TF set, the snippet is single-stepped from here on
        mov     rax, [rip + state_in + 0x00]
        mov     rbx, [rip + state_in + 0x08]
        mov     rcx, [rip + state_in + 0x10]
        mov     rdx, [rip + state_in + 0x18]
        mov     rsi, [rip + state_in + 0x20]
        mov     rdi, [rip + state_in + 0x28]
        mov     r8,  [rip + state_in + 0x30]
        mov     r9,  [rip + state_in + 0x38]
        mov     r10, [rip + state_in + 0x40]
        mov     r11, [rip + state_in + 0x48]
        mov     r12, [rip + state_in + 0x50]
        mov     r13, [rip + state_in + 0x58]
        mov     r14, [rip + state_in + 0x60]
        mov     r15, [rip + state_in + 0x68]
        mov     rbp, [rip + state_in + 0x70]
        mov     rsp, [rip + state_in + 0x78]
        jmp     [rip + target]

# What follows the snippet jumps here: store everything in `state_out`, return from `run`.
finish:
        mov     [rip + state_out + 0x00], rax
        mov     [rip + state_out + 0x08], rbx
        mov     [rip + state_out + 0x10], rcx
        mov     [rip + state_out + 0x18], rdx
        mov     [rip + state_out + 0x20], rsi
        mov     [rip + state_out + 0x28], rdi
        mov     [rip + state_out + 0x30], r8
        mov     [rip + state_out + 0x38], r9
        mov     [rip + state_out + 0x40], r10
        mov     [rip + state_out + 0x48], r11
        mov     [rip + state_out + 0x50], r12
        mov     [rip + state_out + 0x58], r13
        mov     [rip + state_out + 0x60], r14
        mov     [rip + state_out + 0x68], r15
        mov     [rip + state_out + 0x70], rbp
        mov     [rip + state_out + 0x78], rsp
        mov     rsp, [rip + host_rsp]
        pushfq
        pop     [rip + state_out + 0x88]
        push    0x202                   # DF and TF off
        popfq
        lea     rbx, [rip + state_out]
        fxsave64 [rbx + 0x400]
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
      .if VECTOR == 2
        vmovups [rbx + 0x600 + 64 * \n], zmm\n
      .else
        vmovups [rbx + 0x600 + 64 * \n], ymm\n
      .endif
    .endr
    .if VECTOR == 2
      .irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vmovups [rbx + 0x600 + 64 * \n], zmm\n
      .endr
      .irp n, 0,1,2,3,4,5,6,7
        kmovq   [rbx + 0xE00 + 8 * \n], k\n
      .endr
    .endif
        vzeroupper
        fninit
        fldcw   [rip + host_fcw]
        ldmxcsr [rip + host_mxcsr]
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

# void clobber(void): overwrite all that a C function may overwrite (System V ABI 3.2.1, 3.2.3).
clobber:
        pcmpeqd xmm0, xmm0
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vpcmpeqd ymm\n, ymm\n, ymm\n
    .endr
    .if VECTOR == 2
      .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vpternlogd zmm\n, zmm\n, zmm\n, 0xFF
      .endr
      .irp n, 0,1,2,3,4,5,6,7
        kxnorq  k\n, k\n, k\n
      .endr
    .endif
        divss   xmm0, xmm1              # NaN by NaN
        mov     eax, 3
        cvtsi2ss xmm0, eax
        sqrtss  xmm1, xmm0              # inexact: raises a status flag of MXCSR
        vzeroupper
    .rept 8
        fldpi
    .endr
        fsqrt
    .rept 8
        fstp    st(0)
    .endr
        fnstcw  [rip + clobber_fcw]
        fninit
        fldcw   [rip + clobber_fcw]
        mov     rax, -1
        mov     rcx, rax
        mov     rdx, rax
        mov     rsi, rax
        mov     rdi, rax
        mov     r8, rax
        mov     r9, rax
        mov     r10, rax
        mov     r11, rax
        cmp     rax, 1
        ret
clobber_fcw:    .quad 0

# void on_trap(int signal, siginfo_t *, ucontext_t *): append the general registers of a single
# step inside the snippet to the trace, and go on stepping until `stop`.
# ucontext_t in glibc's <sys/ucontext.h>: gregs at 40, REG_RIP = 16, REG_EFL = 17.
on_trap:
        mov     rax, [rdx + 40 + 8 * 16]
        cmp     rax, [rip + stop]
        je      2f
        lea     rcx, [rip + finish]     # the step after a SYSCALL is missed: maybe the one at `stop`
        cmp     rax, rcx
        je      2f
        or      qword ptr [rdx + 40 + 8 * 17], 0x100    # the snippet may have cleared TF itself
        cmp     rax, [rip + target]
        jb      1f
        cmp     rax, [rip + stop]
        ja      1f
        mov     rax, [rip + trace_count]
        cmp     rax, [rip + trace_limit]
        jae     2f
        inc     qword ptr [rip + trace_count]
        imul    rdi, rax, 18 * 8
        add     rdi, [rip + trace]
        lea     rsi, [rdx + 40]
        mov     ecx, 18
        cld
        rep movsq
1:      ret
2:      and     qword ptr [rdx + 40 + 8 * 17], ~0x100
        ret

        .balign 64
state_in:       .skip 0x1000            # offset from the end of the blob: 0x2000
state_out:      .skip 0x1000
