"""Benchmarks: every figure beside a baseline taken in the same run, with its budget."""
