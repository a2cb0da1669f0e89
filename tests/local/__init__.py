"""Tests of `asyncblob.local`: the store of `file://` URLs."""
