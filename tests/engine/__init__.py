"""Tests of asyncblob.engine."""
