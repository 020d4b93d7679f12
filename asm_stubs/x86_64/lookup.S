# Indirect branches that the first-level table could not answer.
#
# An indirect branch of the guest has stored its target in TARGET and the guest's rcx in its slot, then
# jumped through the first-level table entry that the target's low 16 bits choose (see
# pydbi/jit/patches.py). The entry is the landing pad of some block with such an address, or
# `lookup_miss`. A pad whose block starts elsewhere comes here too.

        .include "context.inc"
        .include "macros.inc"
        .text

        .globl  lookup_miss, lookup_absent, lookup_begin, lookup_end
lookup_begin:
# Look into the second-level table: 16-byte entries (app address, landing pad), linear probing, an
# app address of 0 ends a run.
lookup_miss:
        mov     gs:[CTX_SCRATCH_0], rax
        lahf
        seto    al
        mov     gs:[CTX_SCRATCH_1], rdx
        mov     rdx, gs:[CTX_TARGET]
        mov     rcx, rdx                # index = (target ^ target >> 15) & mask
        shr     rcx, 15
        xor     rcx, rdx
        and     rcx, gs:[CTX_L2_MASK]
        shl     rcx, 4
        add     rcx, gs:[CTX_L2_TABLE]
1:      cmp     qword ptr [rcx], 0      # first: the target itself may be 0
        je      3f
        cmp     [rcx], rdx
        je      2f
        add     rcx, 16
        jmp     1b
# Nowhere yet: the dispatcher translates it.
3:      add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        mov     rdx, gs:[CTX_SCRATCH_1]
# A removed block's entry in either table leads here.
lookup_absent:
        mov     rcx, gs:[CTX_SCRATCH_RCX]
        mov     dword ptr gs:[CTX_REASON], REASON_LOOKUP
        jmp     qword ptr gs:[CTX_LEAVE]
# Found: it takes the first-level entry, since it is the one most recently wanted.
2:      mov     rcx, [rcx + 8]
        movzx   edx, dx
        mov     gs:[rdx * 8 + CTX_TABLE], rcx
        inc     qword ptr gs:[CTX_COUNT_L2_HITS]
        add     al, 0x7F
        sahf
        mov     rax, gs:[CTX_SCRATCH_0]
        mov     rdx, gs:[CTX_SCRATCH_1]
        jmp     rcx
lookup_end:
