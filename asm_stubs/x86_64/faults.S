# Signals that the CPU raises, and copying memory that may not be there.

        .include "context.inc"
        .include "macros.inc"
        .text
blob_begin:

.set SYS_rt_sigreturn, 15
.set SYS_rt_sigaction, 13
.set SYS_getpid, 39
.set SYS_gettid, 186
.set SYS_rt_tgsigqueueinfo, 297

# Offsets in ucontext_t (sys/ucontext.h) and siginfo_t (bits/types/siginfo_t.h).
.set UC_R8,  40
.set UC_R9,  48
.set UC_R10, 56
.set UC_R11, 64
.set UC_R12, 72
.set UC_R13, 80
.set UC_R14, 88
.set UC_R15, 96
.set UC_RDI, 104
.set UC_RSI, 112
.set UC_RBP, 120
.set UC_RBX, 128
.set UC_RDX, 136
.set UC_RAX, 144
.set UC_RCX, 152
.set UC_RSP, 160
.set UC_RIP, 168
.set UC_EFLAGS, 176
.set UC_ERR, 192
.set UC_TRAPNO, 200
.set UC_SIGMASK, 296
.set SI_CODE, 8
.set TRAP_TRACE, 2
.set EFLAGS_TF, 0x100
# In slot STEPPING, beside TF: it has arrived in the cache. (In EFLAGS, which it gets into, this is 1.)
.set ARRIVED_BIT, 1
.set ARRIVED, 1 << ARRIVED_BIT
.set SIGTRAP, 5
.set SIGSEGV, 11
.set SI_ADDR, 16

        .globl  safe_copy, fault_handler_fsgsbase, fault_handler_prctl, signal_restorer
        .globl  previous_actions, contexts, kick_handler_fsgsbase, kick_handler_prctl
        .globl  guest_handler_fsgsbase, guest_handler_prctl, guest_actions, not_reentered
        .globl  host_handler_fsgsbase, host_handler_prctl, host_actions

# int safe_copy(void *to, const void *from, size_t size): 0, or 1 if some byte cannot be accessed.
safe_copy:
        mov     rcx, rdx
safe_copy_window:
        rep     movsb
        xor     eax, eax
        ret
safe_copy_failed:
        mov     eax, 1
        ret

# void handler(int signal = edi, siginfo_t * = rsi, ucontext_t * = rdx), SA_SIGINFO | SA_ONSTACK.
# It may run under the guest's thread pointer: nothing here touches FS.
.macro copy_register name
        mov     rax, [rdx + UC_\name]
        mov     [r8 + CTX_\name], rax
.endm
# Jump to \inside if rax is an address of the code cache of context r8.
.macro if_in_cache inside
        lea     r9, [r8 + CTX_CACHE_RANGES]
2:      mov     rcx, [r9 + 8]
        test    rcx, rcx
        jz      4f
        cmp     rax, rcx
        jae     3f
        cmp     rax, [r9]
        jae     \inside
3:      add     r9, 16
        jmp     2b
4:
.endm

# r8 = this thread's context, or 0. Keeps edi, rsi, rdx; rax = the interrupted rip afterwards.
.macro find_context base
    .ifc \base, fsgsbase
        rdgsbase r8
        rdfsbase r9
    .else
        push    rdi
        push    rsi
        push    rdx
        sub     rsp, 16
        mov     edi, ARCH_GET_GS
        mov     rsi, rsp
        mov     eax, SYS_arch_prctl
        syscall
        mov     edi, ARCH_GET_FS
        lea     rsi, [rsp + 8]
        mov     eax, SYS_arch_prctl
        syscall
        mov     r8, [rsp]
        mov     r9, [rsp + 8]
        add     rsp, 16
        pop     rdx
        pop     rsi
        pop     rdi
    .endif
        lea     rcx, contexts[rip]      # native code may have a GS base of its own
        mov     rcx, [rcx]
8:      mov     rax, [rcx]
        add     rcx, 8
        cmp     rax, r8
        je      9f
        test    rax, rax
        jnz     8b
        xor     r8d, r8d
9:      mov     rax, [rdx + UC_RIP]
        test    r8, r8
        jz      7f
        cmp     r9, [r8 + CTX_HOST_FS]
        je      7f
        lea     rcx, blob_begin[rip]    # a thread pointer of the guest's is in force here,
        cmp     rax, rcx
        jb      6f
        lea     rcx, blob_end[rip]
        cmp     rax, rcx
        jb      7f
6:      if_in_cache 7f                  # or here;
        xor     r8d, r8d                # or GS was inherited from the thread that made this one
7:
.endm

.macro fault_handler base
fault_handler_\base:
        mov     rax, [rdx + UC_RIP]
        lea     rcx, safe_copy_window[rip]
        cmp     rax, rcx
        jb      1f
        lea     rcx, safe_copy_failed[rip]
        cmp     rax, rcx
        jae     1f
        mov     [rdx + UC_RIP], rcx     # the copy ends with "failed"
        ret
1:      cmp     dword ptr [rsi + SI_CODE], 0
        jle     sent_fault_\base        # by a program, not raised by the CPU
        find_context \base
        test    r8, r8                  # no VM of ours runs on this thread
        jz      previous_action
        mov     r10d, REASON_FAULT
        cmp     edi, SIGTRAP
        jne     5f
        cmp     dword ptr [rsi + SI_CODE], TRAP_TRACE
        jne     5f
        cmp     qword ptr [r8 + CTX_STEPPING], 0
        jne     stepped
5:      if_in_cache guest_stops
        jmp     previous_action         # a fault of the host's own
.endm

# Is rax in code between the cache and Python that looks at KICKED first and then goes on into the
# cache? It is stepped through. Else jump to \outside. Clobbers rcx.
.macro if_on_the_way_in outside
        lea     rcx, lookup_begin[rip]
        cmp     rax, rcx
        jb      2f
        lea     rcx, native_end[rip]    # the native stubs follow
        cmp     rax, rcx
        jb      4f
2:      cmp     rax, [r8 + CTX_ENTER]
        jb      3f
        cmp     rax, [r8 + CTX_ENTER_END]
        jb      4f
3:      cmp     rax, [r8 + CTX_GATE_RESUME]
        jb      \outside
        cmp     rax, [r8 + CTX_GATE_RESUME_END]
        jae     \outside
4:
.endm

# Let a system call that is about to wait, or to be begun again, return instead. rax = rip.
.macro abort_waiting_call
        lea     rcx, waiting_begin[rip]
        cmp     rax, rcx
        jb      2f
        lea     rcx, waiting_end[rip]
        cmp     rax, rcx
        jae     2f
        lea     rcx, waiting_aborted[rip]
        mov     [rdx + UC_RIP], rcx
2:
.endm

# What a kick and a signal for the guest do: translated code is left at once, wherever it is; Python
# brings it to an instruction boundary. In host code it is noted, and seen on the way back into the
# cache. What cannot see it is stepped through, with \flags in slot STEPPING; else jump to \done.
.macro make_leave flags, done
        cmp     qword ptr [r8 + CTX_RUNNING], 0
        je      \done
        mov     r10d, REASON_KICK
        if_in_cache guest_stops
        mov     qword ptr [r8 + CTX_KICKED], 1
        cmp     qword ptr [r8 + CTX_STEPPING], 0
        jne     \done                  # it is on its way already
        if_on_the_way_in \done
        mov     qword ptr [r8 + CTX_STEPPING], \flags
        or      qword ptr [rdx + UC_EFLAGS], EFLAGS_TF
.endm

# A kick: whoever sent it wants the guest of this thread to leave the cache soon. However many come, it
# gets on: where it enters the cache, a kick is lost. One that matters is sent again.
.macro kick_handler base
kick_handler_\base:
        find_context \base
        test    r8, r8
        jz      6f
        abort_waiting_call
        cmp     rax, [r8 + CTX_ENTER]
        jb      1f
        cmp     rax, [r8 + CTX_ENTER_END]
        jb      6f
1:      make_leave EFLAGS_TF, 6f
6:      ret
.endm

# A signal that the guest has a handler for. It is noted, with all the kernel says about it, and
# delivered where the guest is at an instruction boundary. Until then the kernel keeps more of them.
.macro guest_handler base
# One of the signals of faults, sent: it is the guest's if that has a handler, or is a program.
sent_fault_\base:
        find_context \base
        lea     rcx, guest_actions[rip]
        mov     rcx, [rcx]
        cmp     dword ptr [rcx], 0
        jne     5f
        mov     r9d, edi
        shl     r9d, 5
        cmp     qword ptr [rcx + r9], 1
        jbe     previous_action
        jmp     5f
guest_handler_\base:
        find_context \base
5:      test    r8, r8
        jz      no_guest
        mov     rcx, [r8 + CTX_ACTIVE]
        or      rcx, [r8 + CTX_RUNNING]
        jz      no_guest
        lea     ecx, [rdi - 1]
        bts     [r8 + CTX_PENDING], rcx
        bts     [rdx + UC_SIGMASK], rcx
        jc      1f                      # sigsuspend and its kin: it is blocked behind them
        bts     [r8 + CTX_NEWLY_BLOCKED], rcx
1:      shl     ecx, SIGINFO_SHIFT
        lea     r9, [r8 + rcx + CTX_SIGINFO]
        xor     ecx, ecx
2:      mov     r10, [rsi + rcx]
        mov     [r9 + rcx], r10
        add     ecx, 8
        cmp     ecx, 1 << SIGINFO_SHIFT
        jb      2b
        abort_waiting_call
        make_leave EFLAGS_TF | ARRIVED, 6f
6:      ret
.endm

# A handler of the host's, C code, that may strike while the guest's thread pointer is in force.
.macro host_handler base
host_handler_\base:
        find_context \base
        lea     rcx, host_actions[rip]
        mov     rcx, [rcx]
        mov     eax, edi
        shl     eax, 5
        mov     rax, [rcx + rax]
        test    r8, r8
        jz      1f
        cmp     qword ptr [r8 + CTX_RUNNING], 0
        je      1f
        push    rbx
        push    r12
        sub     rsp, 8
        mov     rbx, r8
    .ifc \base, fsgsbase
        rdfsbase r12
        cmp     r12, [rbx + CTX_HOST_FS]
        je      2f
        mov     rcx, [rbx + CTX_HOST_FS]
        wrfsbase rcx
        call    rax
        wrfsbase r12
    .else
        push    rdi
        push    rsi
        push    rdx
        push    rax
        lea     rsi, [rsp + 32]
        mov     edi, ARCH_GET_FS
        mov     eax, SYS_arch_prctl
        syscall
        mov     r12, [rsp + 32]
        mov     rsi, [rbx + CTX_HOST_FS]
        mov     edi, ARCH_SET_FS
        mov     eax, SYS_arch_prctl
        syscall
        pop     rax
        pop     rdx
        pop     rsi
        pop     rdi
        call    rax
        mov     rsi, r12
        mov     edi, ARCH_SET_FS
        mov     eax, SYS_arch_prctl
        syscall
    .endif
        add     rsp, 8
        pop     r12
        pop     rbx
        ret
2:      add     rsp, 8
        pop     r12
        pop     rbx
1:      jmp     rax
.endm
        fault_handler fsgsbase
        fault_handler prctl
        kick_handler fsgsbase
        kick_handler prctl
        guest_handler fsgsbase
        guest_handler prctl
        host_handler fsgsbase
        host_handler prctl

# A signal that the guest has a handler for, while no guest is under way on this thread: the handler
# runs natively, or, if it belongs to a program, the signal goes to the program's thread.
no_guest:
        lea     rcx, guest_actions[rip]
        mov     rcx, [rcx]
        mov     eax, edi
        shl     eax, 5
        mov     rax, [rcx + rax]
        cmp     rax, 1
        ja      4f
        mov     r8d, [rcx]
        test    r8d, r8d
        jz      5f
        mov     eax, SYS_gettid
        syscall
        cmp     eax, r8d
        je      5f
        mov     r10, rsi
        mov     edx, edi
        mov     esi, r8d
        mov     eax, SYS_getpid
        syscall
        mov     edi, eax
        mov     eax, SYS_rt_tgsigqueueinfo
        syscall
5:      ret
4:      jmp     rax

# One instruction was executed with TF set: on the way into the cache it goes on so until it arrives
# there, or, if it was made to step by Python, until one instruction there is executed: then it leaves.
# On the way out, TF goes.
stepped:
        mov     r10d, REASON_KICK
        if_in_cache stepped_enough
        if_on_the_way_in 9f
        ret
9:      and     qword ptr [rdx + UC_EFLAGS], ~EFLAGS_TF
        mov     qword ptr [r8 + CTX_STEPPING], 0
        mov     qword ptr [r8 + CTX_KICKED], 1  # if this is a gate, its way back will see it
8:      ret
stepped_enough:
        bts     qword ptr [r8 + CTX_STEPPING], ARRIVED_BIT
        jnc     8b
        mov     qword ptr [r8 + CTX_STEPPING], 0

# Translated code stops here: r8 = context, r10d = why. Store what the guest had, and go on in leave_tail
# on the host's stack. The vector registers come back from the signal frame and are stored there.
guest_stops:
        mov     [r8 + CTX_FAULT_PC], rax
        mov     [r8 + CTX_FAULT_SIGNAL], rdi
        movsxd  rax, dword ptr [rsi + SI_CODE]
        mov     [r8 + CTX_FAULT_CODE], rax
        mov     rax, [rsi + SI_ADDR]
        mov     [r8 + CTX_FAULT_ADDRESS], rax
        mov     rax, [rdx + UC_TRAPNO]
        mov     [r8 + CTX_FAULT_TRAP], rax
        mov     rax, [rdx + UC_ERR]
        mov     [r8 + CTX_FAULT_ERROR], rax
        copy_register RAX
        copy_register RBX
        copy_register RCX
        copy_register RDX
        copy_register RSI
        copy_register RDI
        copy_register R8
        copy_register R9
        copy_register R10
        copy_register R11
        copy_register R12
        copy_register R13
        copy_register R14
        copy_register R15
        copy_register RBP
        copy_register RSP
        copy_register EFLAGS
        and     dword ptr [r8 + CTX_EFLAGS], ~0x10100   # TF and RF are the kernel's doing
        mov     eax, [r8 + CTX_REASON]
        mov     [r8 + CTX_INTERRUPTED_REASON], rax
        mov     [r8 + CTX_REASON], r10d
        mov     [rdx + UC_RBX], r8
        mov     rax, [r8 + CTX_HOST_RSP]
        mov     [rdx + UC_RSP], rax
        mov     rax, [r8 + CTX_LEAVE_TAIL]
        mov     [rdx + UC_RIP], rax
        mov     qword ptr [rdx + UC_EFLAGS], EFLAGS_FIXED
        ret

# Not ours: whoever had this signal before us gets it. previous_actions holds 4 words a signal, as
# the kernel's struct sigaction: handler, flags, restorer, mask.
previous_action:
        cmp     edi, SIGSEGV
        je      reentry_fault           # has native code called instrumented code?
not_reentered:
        mov     eax, edi
        shl     eax, 5
        lea     rcx, previous_actions[rip]
        mov     rcx, [rcx]
        add     rcx, rax
        mov     rax, [rcx]
        cmp     rax, 1
        ja      4f
        mov     rsi, rcx                # SIG_DFL or SIG_IGN: put it back, and fault once more
        xor     edx, edx
        mov     r10d, 8
        mov     eax, SYS_rt_sigaction
        syscall
        ret
4:      jmp     rax

signal_restorer:
        mov     eax, SYS_rt_sigreturn
        syscall

        .balign 8
previous_actions:                       # the address of the table; Python fills it in
        .quad   0
guest_actions:                          # likewise
        .quad   0
host_actions:                           # likewise
        .quad   0
contexts:                               # the table of all contexts, ended by a 0; Python fills it in
        .quad   0
