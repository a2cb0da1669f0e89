"""Namespace's artifact storage, moved by its own program: `NscStore`, `CommandResult` and the child process."""

from asyncblob.nsc.command import CommandResult
from asyncblob.nsc.store import NscStore

__all__ = ["CommandResult", "NscStore"]
