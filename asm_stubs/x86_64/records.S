# A builtin function for Python that makes MemoryAccess objects of what generated code has recorded:
# the only machine code here that Python calls as a function of its own (`jit/access_maker.py`).

        .include "macros.inc"
        .text

# What it calls and knows: a table of words, in this order.
        .set    API_LONG_AS_VOID_PTR, 0
        .set    API_LIST_NEW, 8
        .set    API_ALLOCATE, 16        # PyType_GenericAlloc
        .set    API_LONG_FROM, 24       # PyLong_FromUnsignedLongLong
        .set    API_LIST_SET_ITEM, 32
        .set    API_INCREF, 40
        .set    API_DECREF, 48
        .set    API_TYPE, 56            # MemoryAccess
        .set    API_OFFSETS, 64         # of its slots, in the order in which they are filled here

# PyObject *make(PyObject *self, PyObject *const *arguments, Py_ssize_t count)   (METH_FASTCALL)
# Arguments, both as int: the address of a plan, and that of the context.
# A plan is words: number of records, where their pairs begin in the context, and for each record four
# objects, which the caller keeps alive: instAddress, size, type, flags.
# Returns a new list; NULL, with an exception set, if there is no memory.
template_make_accesses:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 24                 # [rsp] the object in the making; aligns
        movabs  rbx, 0x1122334455667788
template_make_accesses.table = . - 8    # 8 bytes: the table's address
        mov     r12, rsi
        mov     rdi, [r12]
        call    [rbx + API_LONG_AS_VOID_PTR]
        mov     rbp, rax                # plan
        mov     rdi, [r12 + 8]
        call    [rbx + API_LONG_AS_VOID_PTR]
        mov     r12, rax
        add     r12, [rbp + 8]          # the next pair
        mov     r13, [rbp]              # number of records
        add     rbp, 16                 # the next record's objects
        xor     r15d, r15d              # index
        mov     rdi, r13
        call    [rbx + API_LIST_NEW]
        test    rax, rax
        jz      4f
        mov     r14, rax                # list
1:      cmp     r15, r13
        jae     3f
        mov     rdi, [rbx + API_TYPE]
        xor     esi, esi
        call    [rbx + API_ALLOCATE]
        test    rax, rax
        jz      5f
        mov     [rsp], rax
        mov     rdi, r14                # the list has it from now on
        mov     rsi, r15
        mov     rdx, rax
        call    [rbx + API_LIST_SET_ITEM]
    .irp word, 0, 8                     # accessAddress, value: new integers
        mov     rdi, [r12 + \word]
        call    [rbx + API_LONG_FROM]
        test    rax, rax
        jz      5f
        mov     rcx, [rbx + API_OFFSETS + \word]
        add     rcx, [rsp]
        mov     [rcx], rax
    .endr
    .irp word, 0, 8, 16, 24             # instAddress, size, type, flags: the plan's
        mov     rdi, [rbp + \word]
        call    [rbx + API_INCREF]
        mov     rcx, [rbx + API_OFFSETS + 16 + \word]
        add     rcx, [rsp]
        mov     rax, [rbp + \word]
        mov     [rcx], rax
    .endr
        add     r12, 16
        add     rbp, 32
        inc     r15
        jmp     1b
3:      mov     rax, r14
4:      add     rsp, 24
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret
5:      mov     rdi, r14                # with all that is in it
        call    [rbx + API_DECREF]
        xor     eax, eax
        jmp     4b
template_make_accesses.end:
