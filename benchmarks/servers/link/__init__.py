"""A link between the clients and a server: as fast as it is told, and not reliable.

A process of its own that passes bytes on. All connections share its rate, each direction by itself, and every tenth of
them may stall: it passes a number of bytes, and then nothing moves on it any more, though it stays open.
"""
