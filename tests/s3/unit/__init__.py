"""Tests of the parts of asyncblob.s3 that need no service."""
