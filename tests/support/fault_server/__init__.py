"""An S3 service in memory that fails on demand, exactly where a test says.

`FaultServer` is the service, `Fault` the base of what can go wrong, `Request` what it records.
"""

from __future__ import annotations

from tests.support.fault_server.faults import Close, Fault, Reset, Split, Stall, Trickle
from tests.support.fault_server.messages import Request, Response, S3Error
from tests.support.fault_server.replies import (
    access_denied,
    authorization_malformed,
    conflict,
    expired_token,
    internal_error,
    invalid_range,
    no_such_upload,
    permanent_redirect,
    precondition_failed,
    request_timeout,
    slow_down,
    time_too_skewed,
)
from tests.support.fault_server.server import CONNECT, FaultServer, Rule
from tests.support.fault_server.wrong_replies import (
    BareBadRequest,
    ChangedETag,
    Corrupt,
    ErrorIn200,
    Hook,
    IgnoreRange,
    LoseReply,
    NoContentRange,
    ReplaceObject,
    Status,
    WrongContentRange,
    WrongRange,
)

__all__ = [
    "CONNECT",
    "BareBadRequest",
    "ChangedETag",
    "Close",
    "Corrupt",
    "ErrorIn200",
    "Fault",
    "FaultServer",
    "Hook",
    "IgnoreRange",
    "LoseReply",
    "NoContentRange",
    "ReplaceObject",
    "Request",
    "Reset",
    "Response",
    "Rule",
    "S3Error",
    "Split",
    "Stall",
    "Status",
    "Trickle",
    "WrongContentRange",
    "WrongRange",
    "access_denied",
    "authorization_malformed",
    "conflict",
    "expired_token",
    "internal_error",
    "invalid_range",
    "no_such_upload",
    "permanent_redirect",
    "precondition_failed",
    "request_timeout",
    "slow_down",
    "time_too_skewed",
]
