# Indirect branches that the first-level table could not answer.
#
# An indirect branch of the guest has put its target into rcx and the guest's rcx and r11 into their
# slots, then jumped through the first-level table entry that the target's low 16 bits choose (see
# pydbi/jit/patches.py). The entry is the landing pad of some block with such an address, or
# `lookup_empty`. A pad whose block starts elsewhere comes to `lookup_miss`.

        .include "context.inc"
        .include "macros.inc"
        .text

        .globl  lookup_miss, lookup_empty
# The pad has computed rcx = target + r11, where r11 is minus its own app address.
lookup_miss:
        not     r11                     # -r11 = ~r11 + 1: no flags change
        lea     rcx, [rcx + r11 + 1]
# rcx = target. Look into the second-level table: 16-byte entries (app address, landing pad),
# linear probing, an app address of 0 ends a run.
lookup_empty:
        mov     gs:[CTX_SCRATCH_0], rax
        lahf
        seto    al
        mov     gs:[CTX_SCRATCH_1], rdx
        mov     r11, rcx                # index = (target ^ target >> 15) & mask
        shr     r11, 15
        xor     r11, rcx
        and     r11, gs:[CTX_L2_MASK]
        shl     r11, 4
        add     r11, gs:[CTX_L2_TABLE]
1:      mov     rdx, [r11]
        cmp     rdx, rcx
        je      2f
        add     r11, 16
        test    rdx, rdx
        jnz     1b
# Nowhere yet: the dispatcher translates it.
        add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        mov     rdx, gs:[CTX_SCRATCH_1]
# A removed block's entry in either table leads here.
lookup_absent:
        mov     gs:[CTX_TARGET], rcx
        mov     rcx, gs:[CTX_SCRATCH_RCX]
        mov     r11, gs:[CTX_SCRATCH_R11]
        mov     dword ptr gs:[CTX_REASON], REASON_LOOKUP
        jmp     qword ptr gs:[CTX_LEAVE]
# Found: it takes the first-level entry, since it is the one most recently wanted.
2:      mov     r11, [r11 + 8]
        movzx   edx, cx
        mov     gs:[rdx * 8 + CTX_TABLE], r11
        inc     qword ptr gs:[CTX_COUNT_L2_HITS]
        add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        mov     rdx, gs:[CTX_SCRATCH_1]
        jmp     r11
