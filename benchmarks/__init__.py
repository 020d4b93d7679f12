"""Benchmarks of a DBI engine against native execution and against PyQBDI.

Run them with ``python -m benchmarks``; README.md says what each row means.
"""
