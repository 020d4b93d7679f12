/* Loaded and unloaded many times; counts its loads in a file-local variable. */
#include <stdio.h>

static int calls;
__thread int per_thread = 5;

__attribute__((constructor)) static void begin(void) { calls = 100; }
__attribute__((destructor)) static void end(void) { calls = 0; }

int plugin(int n) { return calls++ + n + per_thread++; }
