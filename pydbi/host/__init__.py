"""The kernel and the processor, reached through ctypes; knows nothing of instrumentation."""
