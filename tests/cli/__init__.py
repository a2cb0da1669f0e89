"""Tests of the command line: in this process with a fake store, and as the program that users run."""
