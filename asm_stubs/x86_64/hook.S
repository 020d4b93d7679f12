# Hooks: what a native call of a hooked function comes to, by way of the jump that was written over
# the function's first bytes and the island that this leads to (pydbi/hooks).
#
# The caller's registers go into a frame, which has a context's layout, and Python is called on a
# stack of its own. So the function, when Python runs it, has the caller's stack below rsp for itself,
# and its arguments on the stack are where they belong. Afterwards what is in the frame becomes the
# state of the thread, rip included, wherever that is.

        .include "context.inc"
        .include "macros.inc"
        .text

# A hook's record; the island pushes its address. 8 bytes each, filled in by Python.
.set HOOK_STACKS, 0                     # the table of free stacks, ended by -1
.set HOOK_LOW, 8                        # all these stacks lie from here
.set HOOK_HIGH, 16                      # up to here
.set HOOK_ORIGINAL, 24                  # the function, the jump at its entry bypassed
.set HOOK_CALLBACK, 32                  # void callback(frame *)
.set HOOK_ERRNO, 40                     # &errno - FS base, of every thread
.set HOOK_MISSED, 48                    # calls that found no free stack

# Slots of the frame that a context uses otherwise.
.set FRAME_ENTRY, CTX_SCRATCH_0         # where in the table of stacks this one belongs
.set FRAME_HOOK, CTX_SCRATCH_1          # the record
.set RED_ZONE, 128
.set MXCSR_DEFAULT, 0x1F80

# A register of the frame goes below what was pushed last.
.macro push_saved names:vararg
    .irp name, \names
        push    qword ptr [rbx + CTX_\name]
    .endr
.endm

.macro hook vector
# On the caller's stack: the record, the return address. All registers are the caller's.
hook_entry_\vector:
        push    rax
        push    rcx
        pushfq
        mov     rax, [rsp + 24]
        cmp     rsp, [rax + HOOK_LOW]   # Python's own call, made while it handles one
        jb      1f
        cmp     rsp, [rax + HOOK_HIGH]
        jb      5f
1:      mov     rcx, [rax + HOOK_STACKS]
2:      mov     rax, [rcx]
        test    rax, rax
        jz      3f
        cmp     rax, -1
        je      4f
        xor     eax, eax
        xchg    [rcx], rax              # another thread may have been faster
        test    rax, rax
        jnz     6f
3:      add     rcx, 8
        jmp     2b
4:      mov     rax, [rsp + 24]
        lock inc qword ptr [rax + HOOK_MISSED]
5:      mov     rax, [rax + HOOK_ORIGINAL]      # in the record's place, to be returned to
        mov     [rsp + 24], rax
        popfq
        pop     rcx
        pop     rax
        ret

6:      mov     [rax + CTX_RBX], rbx    # rax is the frame; its stack grows down from it
        mov     rbx, rax
        mov     [rbx + FRAME_ENTRY], rcx
        pop     qword ptr [rbx + CTX_EFLAGS]
        pop     rcx
        pop     qword ptr [rbx + CTX_RAX]
        store_gprs_but_rax_rbx_rsp
        pop     r12
        mov     [rbx + FRAME_HOOK], r12
        mov     [rbx + CTX_RSP], rsp    # the return address is there, as the function expects
        mov     rsp, rbx
        push    EFLAGS_FIXED
        popfq
        mov     rax, fs:[0]             # the FS base
        add     rax, [r12 + HOOK_ERRNO]
        mov     [rbx + CTX_ERRNO_ADDRESS], rax
        store_errno
        store_x87 1                     # MXCSR too
        store_vectors \vector
        mov     dword ptr [rsp - 4], MXCSR_DEFAULT
        ldmxcsr [rsp - 4]
        mov     rax, [r12 + HOOK_ORIGINAL]      # unless Python wants something else
        mov     [rbx + CTX_RIP], rax
        mov     rdi, rbx
        call    [r12 + HOOK_CALLBACK]
        load_x87 1
        load_vectors \vector
        load_errno
# What is still to be loaded goes below the red zone of the stack that is to be used from now on.
        mov     rax, [rbx + CTX_RIP]
        mov     rsp, [rbx + CTX_RSP]
        lea     rsp, [rsp - RED_ZONE]
        push    rax
        and     dword ptr [rbx + CTX_EFLAGS], EFLAGS_USER
        or      dword ptr [rbx + CTX_EFLAGS], EFLAGS_FIXED
        push_saved EFLAGS, RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, RBP, RBX
        mov     rax, [rbx + FRAME_ENTRY]
        mov     [rax], rbx              # the next call may have this stack
        pop     rbx
        pop     rbp
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rdi
        pop     rsi
        pop     rdx
        pop     rcx
        pop     rax
        popfq
        ret     RED_ZONE
.endm
        hook sse
        hook avx
        hook avx512
