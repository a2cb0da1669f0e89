"""An HTTP proxy in front of a real S3 service, which makes transfers suffer by script or by a seeded random choice.

`FaultProxy` takes the same faults as the fault server; `RandomFaults` chooses among them.
"""

from __future__ import annotations

from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.random_faults import KINDS, RandomFaults

__all__ = ["KINDS", "FaultProxy", "RandomFaults", "run_fault_proxy"]
