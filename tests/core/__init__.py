"""Tests of what the package is made of: its errors, its names, its layers and its contract."""
