"""Hypothesis for this directory: no deadline, since a busy machine is no bug."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("asyncblob", deadline=None)
settings.load_profile("asyncblob")
