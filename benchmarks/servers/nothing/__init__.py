"""A server that does nothing: it drops what is uploaded, and sends files that the kernel reads from memory.

``python -m benchmarks.servers.nothing`` is the program, `start` starts it for a benchmark.
"""
