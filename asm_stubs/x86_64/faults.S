# Signals that the CPU raises, where all handlers go on, and copying memory that may not be there.

        .include "context.inc"
        .include "macros.inc"
        .include "ucontext.inc"
        .include "interrupted.inc"
        .include "handlers.inc"
        .text
blob_begin:
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
        cmp     edi, SIGTRAP
        je      6f
        lea     rcx, path_window[rip]
        cmp     rax, rcx
        jb      6f
        lea     rcx, path_window_end[rip]
        cmp     rax, rcx
        jae     6f
        lea     rcx, filter_leaves[rip]
        mov     [rdx + UC_RIP], rcx     # Python will see that the path cannot be read
        ret
6:
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

        fault_handler fsgsbase
        fault_handler prctl
        kick_handler fsgsbase
        kick_handler prctl
        guest_handler fsgsbase
        guest_handler prctl
        host_handler fsgsbase
        host_handler prctl

# The kernel's siginfo goes into context r8, and the signal is blocked where it has struck. Keeps rax, edi,
# rsi and rdx.
note_signal:
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
        ret

# A signal that the guest has a handler for, while no guest is under way on this thread: the handler
# runs natively, or, if it belongs to a program, the signal goes to the program's thread. That may be this
# one, which is about to run it.
no_guest:
        lea     r9, guest_actions[rip]
        mov     r9, [r9]
        mov     eax, edi
        shl     eax, 5
        mov     rax, [r9 + rax]
        cmp     rax, 1
        ja      4f
        mov     r8d, [r9]
        test    r8d, r8d
        jz      5f
        mov     eax, SYS_gettid
        syscall
        cmp     eax, r8d
        je      6f
        mov     r10, rsi
        mov     edx, edi
        mov     esi, r8d
        mov     eax, SYS_getpid
        syscall
        mov     edi, eax
        mov     eax, SYS_rt_tgsigqueueinfo
        syscall
5:      ret
6:      mov     r8, [r9 + 8]
        mov     qword ptr [r8 + CTX_KICKED], 1
        jmp     note_signal
4:      jmp     rax

# One instruction was executed with TF set: on the way into the cache it goes on so until it arrives
# there, or, if it was made to step by Python, until one instruction there is executed: then it leaves.
# On the way out, TF goes.
stepped:
        mov     r10d, REASON_KICK
        if_in_cache stepped_enough
        if_on_the_way_in 9f
        or      qword ptr [rdx + UC_EFLAGS], EFLAGS_TF  # POPF may just have cleared it
        ret
9:      and     qword ptr [rdx + UC_EFLAGS], ~EFLAGS_TF
        mov     qword ptr [r8 + CTX_STEPPING], 0
        mov     qword ptr [r8 + CTX_KICKED], 1  # if this is a gate, its way back will see it
8:      ret
stepped_enough:
        bts     qword ptr [r8 + CTX_STEPPING], ARRIVED_BIT
        jnc     8b
        mov     qword ptr [r8 + CTX_STEPPING], 0

.macro copy_register name
        mov     rax, [rdx + UC_\name]
        mov     [r8 + CTX_\name], rax
.endm

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
