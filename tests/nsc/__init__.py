"""Tests of asyncblob.nsc, against a stand-in for Namespace's `nsc`."""
