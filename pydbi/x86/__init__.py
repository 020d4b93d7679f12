"""The instruction set: functions on bytes that know nothing of the engine."""
