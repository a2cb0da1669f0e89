"""The command ``asyncblob``: what it takes, what it prints, how it ends. Nothing in the library imports it."""
