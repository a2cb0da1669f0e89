"""Tests of `asyncblob.files`: sources, atomic publication, sweeping, copying."""
