# Templates: the pieces that the translator copies into the cache and fills in.
#
# A template runs from the label template_NAME to template_NAME.end. A label template_NAME.HOLE marks
# where a value is to be written; its size stands beside it. Everything is addressed through GS, so a
# template is the same bytes wherever it goes.

        .include "context.inc"
        .include "macros.inc"
        .text

# The way from a block back to the dispatcher, until its jump is linked.
template_exit:
        mov     dword ptr gs:[CTX_REASON], 0x11223344
template_exit.index = . - 4             # 4 bytes: which exit
        jmp     qword ptr gs:[CTX_LEAVE]
template_exit.end:

# An exit whose target lies too far away for a 32-bit displacement, once linked.
template_far_jump:
        jmp     qword ptr [rip]
template_far_jump.target:               # 8 bytes: cache address
        .quad   0
template_far_jump.end:

# A callback is due.
template_gate:
        mov     dword ptr gs:[CTX_GATE_INDEX], 0x11223344
template_gate.index = . - 4             # 4 bytes: which gate record
        jmp     qword ptr gs:[CTX_GATE]
template_gate.end:

# A return: look the target up by its low 16 bits. No flags change, nothing is written to the stack.
# One register is borrowed: a second one costs more than everything else here (docs/design).
template_return:
        mov     gs:[CTX_SCRATCH_RCX], rcx
        pop     rcx
template_return.popped:                 # `ret imm16` goes on with template_release here
template_return.rest:
        mov     gs:[CTX_TARGET], rcx
        movzx   ecx, cx
        jmp     qword ptr gs:[rcx * 8 + CTX_TABLE]
template_return.end:

template_release:
        lea     rsp, [rsp + 0x11223344]
template_release.size = . - 4           # 4 bytes: what `ret imm16` releases beside the address
template_release.end:

# Before the target of an indirect jump or call is loaded into rcx.
template_indirect:
        mov     gs:[CTX_SCRATCH_RCX], rcx
template_indirect.end:

# The app return address of a call: one 8-byte push, for two 4-byte stores would stall the return.
template_push:
        push    qword ptr [rip + 0x11223344]
template_push.displacement = . - 4      # 4 bytes: to a constant at the arena's far end
template_push.end:

# Where a lookup enters a block: TARGET must be its app address, the guest's rcx is in its slot. The
# comparison leaves the flags alone. Without a second register a 64-bit constant is subtracted in two
# steps, with the halves swapped between them; LOOP decrements rcx and jumps unless that makes it 0.
# LOOP is fast on AMD processors and slow on Intel's, which get the next template.
template_landing_pad_loop:
1:      jmp     qword ptr gs:[CTX_LOOKUP_MISS]
template_landing_pad_loop.entry:
        mov     rcx, gs:[CTX_TARGET]
        lea     rcx, [rcx + 0x11223344]
template_landing_pad_loop.low = . - 4   # 4 bytes: minus the low half of the app address, as signed
        rorx    rcx, rcx, 32
        lea     rcx, [rcx + 0x11223344]
template_landing_pad_loop.high = . - 4  # 4 bytes: 1 - what is left of it then
        loop    1b
template_landing_pad_loop.restore:
        mov     rcx, gs:[CTX_SCRATCH_RCX]
template_landing_pad_loop.end:

template_landing_pad_jrcxz:
1:      jmp     qword ptr gs:[CTX_LOOKUP_MISS]
template_landing_pad_jrcxz.entry:
        mov     ecx, gs:[CTX_TARGET]
        lea     ecx, [rcx + 0x11223344]
template_landing_pad_jrcxz.low = . - 4  # 4 bytes: minus the low half of the app address
        jrcxz   2f
        jmp     1b
2:      mov     ecx, gs:[CTX_TARGET + 4]
        lea     ecx, [rcx + 0x11223344]
template_landing_pad_jrcxz.high = . - 4 # 4 bytes: minus the high half
        jrcxz   3f
        jmp     1b
3:
template_landing_pad_jrcxz.restore:
        mov     rcx, gs:[CTX_SCRATCH_RCX]
template_landing_pad_jrcxz.end:

# The target of a branch that has POSTINST callbacks rests in TARGET while they run.
template_hold_target:
        mov     gs:[CTX_TARGET], rcx
        mov     rcx, gs:[CTX_SCRATCH_RCX]
template_hold_target.end:
template_take_target:
        mov     gs:[CTX_SCRATCH_RCX], rcx
        mov     rcx, gs:[CTX_TARGET]
template_take_target.end:

# A Python callable without arguments that calls one guest function: it enters the call block, unless
# the guest is running already, has no stack, or was last run by another thread.
template_call_thunk:
        movabs  rdi, 0x1122334455667788
template_call_thunk.context = . - 8     # 8 bytes
        movabs  rax, 0x1122334455667788
template_call_thunk.entry = . - 8       # 8 bytes: cache address of the call block
        cmp     qword ptr [rdi + CTX_RUNNING], 0
        jne     1f
        cmp     qword ptr [rdi + CTX_RSP], 0
        je      2f
        mov     rcx, fs:[0]             # the thread control block's own address
        cmp     [rdi + CTX_THREAD], rcx
        jne     3f
        mov     qword ptr [rdi + CTX_STOP_REQUEST], 0
        mov     qword ptr [rdi + CTX_ACTIVE], 1
        mov     [rdi + CTX_ENTRY], rax
        jmp     qword ptr [rdi + CTX_ENTER]
1:      mov     eax, REASON_REENTERED
        ret
2:      mov     eax, REASON_NO_STACK
        ret
3:      mov     eax, REASON_OTHER_THREAD
        ret
template_call_thunk.end:

# The call block: remember rsp, leave room for a frame; a push of the return address and a jump follow.
template_call:
        mov     gs:[CTX_CALL_RSP], rsp
        lea     rsp, [rsp + 0x11223344]
template_call.frame = . - 4             # 4 bytes: minus the frame's size
template_call.end:

# Behind the landing pad of the return address: the function is done.
template_call_return:
        mov     rsp, gs:[CTX_CALL_RSP]
        mov     qword ptr gs:[CTX_RIP], 0x11223344
template_call_return.rip = . - 4        # 4 bytes: the return address
        mov     qword ptr gs:[CTX_ACTIVE], 0
        mov     dword ptr gs:[CTX_REASON], REASON_RETURNED
        jmp     qword ptr gs:[CTX_LEAVE]
template_call_return.end:

# A function that must run natively. Its return address is read here first: if the stack is bad, the
# fault belongs to this block.
template_native:
        mov     gs:[CTX_SCRATCH_0], rax
        mov     rax, [rsp]
        movabs  rax, 0x1122334455667788
template_native.target = . - 8          # 8 bytes: its address
        mov     gs:[CTX_NATIVE_TARGET], rax
        mov     rax, gs:[CTX_SCRATCH_0]
        jmp     qword ptr gs:[CTX_NATIVE_CALL]
template_native.end:

# A system call. rcx and r11 are its to clobber, so they are free before it: a table of bytes says
# which calls Python may have to handle; `syscall_filter` (native.S) leaves, or comes back to .call.
# After it rcx is the next app address, as the hardware leaves it.
.set EINTR, 4
template_syscall:
        movzx   ecx, ax
        mov     r11, gs:[CTX_SYSCALL_TABLE]
        movzx   ecx, byte ptr [r11 + rcx]
        jrcxz   1f
        mov     dword ptr gs:[CTX_REASON], 0x11223344
template_syscall.index = . - 4          # 4 bytes: which exit
        lea     r11, 1f[rip]
        jmp     qword ptr gs:[CTX_SYSCALL_FILTER]
1:
template_syscall.call:                  # where Python has it go to the kernel after all
        syscall
        lea     ecx, [rax + EINTR]
        jrcxz   2f                      # a signal has come: its handler in Python must have its turn
        movabs  rcx, 0x1122334455667788
template_syscall.next = . - 8           # 8 bytes: app address behind it
        jmp     3f
2:      movabs  rcx, 0x1122334455667788
template_syscall.again = . - 8          # 8 bytes: the same
        mov     dword ptr gs:[CTX_REASON], 0x11223344
template_syscall.interrupted = . - 4    # 4 bytes: which exit then
        jmp     qword ptr gs:[CTX_LEAVE]
3:
template_syscall.end:

# At the start of a block while transfers are reported: has execution just come into the instrumented
# ranges, or left them? Gates that report it follow; otherwise they are jumped over.
template_transfer_in:
        mov     gs:[CTX_SCRATCH_0], rcx
        mov     rcx, gs:[CTX_OUTSIDE]
        jrcxz   1f
        mov     qword ptr gs:[CTX_OUTSIDE], 0
        mov     qword ptr gs:[CTX_INSIDE], 1
        mov     rcx, gs:[CTX_SCRATCH_0]
        jmp     2f
1:      mov     rcx, gs:[CTX_SCRATCH_0]
        .byte   0xE9                    # jmp: how far, behind the gates, is filled in when they are
        .long   0
2:
template_transfer_in.end:

template_transfer_out:
        mov     gs:[CTX_SCRATCH_0], rcx
        mov     rcx, gs:[CTX_INSIDE]
        jrcxz   1f
        mov     qword ptr gs:[CTX_OUTSIDE], 1
        mov     qword ptr gs:[CTX_INSIDE], 0
        movabs  rcx, 0x1122334455667788
template_transfer_out.target = . - 8    # 8 bytes: this block's app address
        mov     gs:[CTX_TRANSFER_TARGET], rcx
        mov     rcx, gs:[CTX_SCRATCH_0]
        jmp     2f
1:      mov     rcx, gs:[CTX_SCRATCH_0]
        .byte   0xE9
        .long   0
2:
template_transfer_out.end:
