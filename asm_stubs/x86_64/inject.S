# What `pydbi attach` executes in another process, on a thread of its own: load libpython unless there
# is a Python already, start it, and run source text. Python fills in the table that it is given
# (pydbi/tools/injection.py).

        .include "macros.inc"
        .text

# The table, 8 bytes each: functions of the C library, texts, and what has become of it.
.set INJECT_DLOPEN, 0
.set INJECT_DLSYM, 8
.set INJECT_DLERROR, 16
.set INJECT_LIBRARY, 24                 # path of libpython
.set INJECT_HOME, 32                    # sys.prefix for it, wide characters
.set INJECT_SOURCE, 40
.set INJECT_STATUS, 48                  # one of those below
.set INJECT_RESULT, 56                  # of PyRun_SimpleString
.set INJECT_ERROR, 64                   # text: why libpython cannot be used
.set INJECT_STATE, 72
.set STATUS_DONE, 1
.set STATUS_FAILED, 2
.set RTLD_NOW_GLOBAL, 0x102             # <bits/dlfcn.h>

# Call the function \name of the library r12, its arguments being in place but for \rdi.
.macro python name, rdi:vararg
        lea     rsi, text_\name[rip]
        mov     rdi, r12
        call    qword ptr [rbx + INJECT_DLSYM]
        test    rax, rax
        jz      inject_failed
    .ifnb \rdi
        mov     rdi, \rdi
    .endif
        call    rax
.endm

# void *start(void *table): a thread's start function.
inject_begin:
        push    rbx
        push    r12
        sub     rsp, 8
        mov     rbx, rdi
        xor     r12d, r12d              # RTLD_DEFAULT: is there a Python in the process?
        mov     rdi, r12
        lea     rsi, text_Py_IsInitialized[rip]
        call    qword ptr [rbx + INJECT_DLSYM]
        test    rax, rax
        jnz     1f
        mov     rdi, [rbx + INJECT_LIBRARY]
        mov     esi, RTLD_NOW_GLOBAL
        call    qword ptr [rbx + INJECT_DLOPEN]
        mov     r12, rax
        test    rax, rax
        jz      inject_failed
1:      python  Py_IsInitialized
        test    eax, eax
        jnz     3f
        mov     rdi, r12                # it is gone since Python 3.15, which finds its home itself
        lea     rsi, text_Py_SetPythonHome[rip]
        call    qword ptr [rbx + INJECT_DLSYM]
        test    rax, rax
        jz      2f
        mov     rdi, [rbx + INJECT_HOME]
        call    rax
2:      python  Py_InitializeEx, 0      # without its signal handlers
        python  PyRun_SimpleString, [rbx + INJECT_SOURCE]
        mov     [rbx + INJECT_RESULT], rax
        python  PyEval_SaveThread       # hooks called by other threads take the lock from now on
        jmp     4f
3:      python  PyGILState_Ensure
        mov     [rbx + INJECT_STATE], rax
        python  PyRun_SimpleString, [rbx + INJECT_SOURCE]
        mov     [rbx + INJECT_RESULT], rax
        python  PyGILState_Release, [rbx + INJECT_STATE]
4:      mov     qword ptr [rbx + INJECT_STATUS], STATUS_DONE
        jmp     5f
inject_failed:
        call    qword ptr [rbx + INJECT_DLERROR]
        mov     [rbx + INJECT_ERROR], rax
        mov     qword ptr [rbx + INJECT_STATUS], STATUS_FAILED
5:      xor     eax, eax
        add     rsp, 8
        pop     r12
        pop     rbx
        ret
text_Py_IsInitialized:
        .asciz  "Py_IsInitialized"
text_Py_SetPythonHome:
        .asciz  "Py_SetPythonHome"
text_Py_InitializeEx:
        .asciz  "Py_InitializeEx"
text_PyRun_SimpleString:
        .asciz  "PyRun_SimpleString"
text_PyEval_SaveThread:
        .asciz  "PyEval_SaveThread"
text_PyGILState_Ensure:
        .asciz  "PyGILState_Ensure"
text_PyGILState_Release:
        .asciz  "PyGILState_Release"
inject_end:
