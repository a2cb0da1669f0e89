"""Tests of input that somebody made to do harm, wherever it comes in."""
