# Native excursions: the host's own code (libpython, libffi, malloc, ...) runs untranslated.
#
# The return address on the guest's stack is replaced by `native_return` for as long as the native
# function runs, as QBDI's ExecBroker does; everything else of the guest's state is untouched. A
# side stack in the context remembers (return address, rsp), so excursions nest, and one that is
# left by longjmp does not confuse the next.

        .include "context.inc"
        .include "macros.inc"
        .text

        .globl  native_call, native_return, native_end, syscall_filter
        .globl  path_window, path_window_end, filter_leaves
# The guest is at the entry of the native function NATIVE_TARGET, all its registers live.
native_call:
        mov     gs:[CTX_SCRATCH_0], rax
        lahf
        seto    al
        mov     gs:[CTX_SCRATCH_RCX], rcx
        mov     gs:[CTX_SCRATCH_1], r11
        mov     rcx, gs:[CTX_NATIVE_DEPTH]
        cmp     rcx, NATIVE_STACK_ENTRIES
        jae     3f
        shl     rcx, 4
        mov     r11, gs:[CTX_SELF]
        lea     r11, [r11 + rcx + CTX_NATIVE_STACK]
        mov     rcx, [rsp]              # the thunk has read this word already: it cannot fault
        mov     [r11], rcx
        mov     [r11 + 8], rsp
        lea     rcx, native_return[rip]
        mov     [rsp], rcx
        inc     qword ptr gs:[CTX_NATIVE_DEPTH]
        inc     qword ptr gs:[CTX_COUNT_NATIVE_CALLS]
        add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        mov     rcx, gs:[CTX_SCRATCH_RCX]
        mov     r11, gs:[CTX_SCRATCH_1]
        jmp     qword ptr gs:[CTX_NATIVE_TARGET]
# Too deep: the dispatcher drops what longjmp left behind, or says so.
3:      add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        mov     rcx, gs:[CTX_SCRATCH_RCX]
        mov     r11, gs:[CTX_SCRATCH_1]
        mov     dword ptr gs:[CTX_REASON], REASON_NATIVE_OVERFLOW
        jmp     qword ptr gs:[CTX_LEAVE]

# The native function has returned: go on, translated, at the return address it should have had.
native_return:
        mov     gs:[CTX_SCRATCH_0], rax
        lahf
        seto    al
        mov     gs:[CTX_SCRATCH_RCX], rcx
        mov     gs:[CTX_SCRATCH_1], r11
        mov     rcx, gs:[CTX_NATIVE_DEPTH]
        shl     rcx, 4
        add     rcx, gs:[CTX_SELF]      # rcx + CTX_NATIVE_STACK: behind the youngest entry
        lea     r11, [rsp - 8]          # where the return address lay
1:      sub     rcx, 16
        cmp     rcx, gs:[CTX_SELF]
        jb      9f
        cmp     [rcx + CTX_NATIVE_STACK + 8], r11
        jne     1b
        mov     qword ptr [rcx + CTX_NATIVE_STACK + 8], 0
        push    [rcx + CTX_NATIVE_STACK]        # into the word that RET has just popped
# Drop finished entries from the top.
        mov     r11, gs:[CTX_NATIVE_DEPTH]
2:      lea     rcx, [r11 - 1]
        shl     rcx, 4
        add     rcx, gs:[CTX_SELF]
        cmp     qword ptr [rcx + CTX_NATIVE_STACK + 8], 0
        jne     3f
        dec     r11
        jnz     2b
3:      mov     gs:[CTX_NATIVE_DEPTH], r11
        pop     rcx
        mov     gs:[CTX_TARGET], rcx
        cmp     qword ptr gs:[CTX_KICKED], 0
        jne     4f
        add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        mov     r11, gs:[CTX_SCRATCH_1]
        movzx   ecx, cx
        jmp     qword ptr gs:[rcx * 8 + CTX_TABLE]
4:      add     al, 0x7F                # a kick came meanwhile: go on by way of the dispatcher
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        mov     r11, gs:[CTX_SCRATCH_1]
        jmp     lookup_absent
9:      ud2                             # an excursion that we did not start cannot return here

# A system call that the table says something of: ecx = what, r11 = where it is made, REASON = the exit to
# Python. Most paths are not below /proc, and most descriptors are not hidden: these calls are made in place.
syscall_filter:
        mov     gs:[CTX_SCRATCH_0], rax
        lahf
        seto    al
        cmp     ecx, CALL_FIRST_PATH
        jb      filter_leaves
        jne     1f
        mov     rcx, rdi
        jmp     2f
1:      cmp     ecx, CALL_SECOND_PATH
        jne     3f
        mov     rcx, rsi
2:
path_window:                            # a path that cannot be read is for Python: see fault_handler
        cmp     dword ptr [rcx], 0x6F72702F     # "/pro"
        jne     filter_stays
        cmp     word ptr [rcx + 4], 0x2F63      # "c/"
path_window_end:
        je      filter_leaves
        jmp     filter_stays
3:      cmp     edi, DESCRIPTOR_MARKS
        jae     filter_leaves
        mov     ecx, edi
        add     rcx, SYSCALL_NUMBERS * 8
        mov     gs:[CTX_SCRATCH_1], r11
        mov     r11, gs:[CTX_SYSCALL_TABLE]
        bt      [r11], rcx
        mov     r11, gs:[CTX_SCRATCH_1]
        jc      filter_leaves
filter_stays:
        mov     dword ptr gs:[CTX_REASON], REASON_NONE
        add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        jmp     r11
filter_leaves:
        add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        jmp     qword ptr gs:[CTX_LEAVE]
native_end:

# int64_t waiting_call(context *, int64_t number, const int64_t arguments[6]): a system call that Python
# makes for the guest, and that may wait. A signal for the guest, or a kick, before it has begun makes it
# return WAIT_ABORTED, and where the kernel would begin it again, WAIT_BEGUN: nothing was done.
        .globl  waiting_call, waiting_begin, waiting_end, waiting_aborted
waiting_call:
        push    rbx
        mov     rbx, rdi
        mov     rax, rsi
        mov     r11, rdx
        mov     rdi, [r11]
        mov     rsi, [r11 + 8]
        mov     rdx, [r11 + 16]
        mov     r10, [r11 + 24]
        mov     r8, [r11 + 32]
        mov     r9, [r11 + 40]
        xor     ecx, ecx
waiting_begin:
        cmp     qword ptr [rbx + CTX_PENDING], 0
        jne     waiting_aborted
        syscall
waiting_end:
        pop     rbx
        ret
waiting_aborted:
        mov     rax, WAIT_ABORTED
        lea     rdx, waiting_end[rip]
        cmp     rcx, rdx                # as SYSCALL leaves it
        jne     1f
        mov     rax, WAIT_BEGUN
1:      pop     rbx
        ret
