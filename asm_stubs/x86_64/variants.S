# Every variant of the switch. The Python side puts one of them in force by writing its addresses
# into the context's slots ENTER, LEAVE, LEAVE_TAIL, GATE and GATE_RESUME.

        .include "context.inc"
        .include "macros.inc"
        .include "switch.inc"

        .text
.macro for_each_base vector, x87, swap
        switch  \vector\()_x87\x87\()_swap\swap\()_fsgsbase, \vector, \x87, \swap, fsgsbase
        switch  \vector\()_x87\x87\()_swap\swap\()_prctl, \vector, \x87, \swap, prctl
.endm
.macro for_each_thread_pointer vector, x87
        for_each_base \vector, \x87, 0
        for_each_base \vector, \x87, 1
.endm
.macro for_each_x87 vector
        for_each_thread_pointer \vector, 0
        for_each_thread_pointer \vector, 1
.endm
        for_each_x87 sse
        for_each_x87 avx
        for_each_x87 avx512
        for_each_thread_pointer none, 0
        .globl  blob_end
blob_end:
