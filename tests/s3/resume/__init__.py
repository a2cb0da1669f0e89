"""Tests of transfers with ``resume=True``, which go on where they were broken off."""
