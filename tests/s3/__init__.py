"""Tests of asyncblob.s3 against real and faulty services."""
