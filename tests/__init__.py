"""The tests of asyncblob."""
