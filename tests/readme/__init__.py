"""The README: its examples run, and what it says of the code is so."""
