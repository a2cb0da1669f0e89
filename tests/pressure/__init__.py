"""Many transfers at once, and little of what they need: descriptors, memory, threads."""
