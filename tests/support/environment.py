"""The environment that tests see: nothing of the AWS configuration, and of the state, of whoever runs them."""

from __future__ import annotations

import os

import pytest

from tests.support.endpoint import ACCESS_KEY, REGION, SECRET_KEY

__all__ = ["isolate", "set_credentials"]

NOWHERE = "/nonexistent/asyncblob-tests"


def isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take AWS settings and proxies out of the environment, and point botocore's files to nowhere."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)  # what is resumed is below HOME then
    for name in tuple(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{NOWHERE}/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{NOWHERE}/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def set_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the credentials of the test servers into the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
