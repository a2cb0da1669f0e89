"""Random transfers with random faults, cancellations and overwrites: ``python -m tests.soak --seconds 3600 --seed 1``.

After each batch the whole invariant is checked: nothing is lost, mixed or left behind.
"""
