"""One measured run in a process of its own: ``python -m benchmarks.child``, the job as JSON on standard input.

Imports as little as possible: what this process takes is what the client takes.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from benchmarks.model import Job, Sample
from benchmarks.peers import PEERS
from benchmarks.scenarios import SCENARIOS
from benchmarks.stopwatch import Stopwatch

__all__ = ["main"]


def main() -> None:
    """Do the job, and write the sample as JSON to the file that is the only argument."""
    job = Job.from_json(json.load(sys.stdin))
    scenario = SCENARIOS[job.scenario]
    client = PEERS[job.peer].open(job.target, job.settings)
    stopwatch = Stopwatch(client.usage)
    try:
        outcome = scenario.run(client, job.arguments, stopwatch)
        told = {**client.told(job.scenario), **outcome.told}
        peak_rss_bytes = client.usage().peak_rss_bytes
    finally:
        client.close()
    sample = Sample(
        bytes_moved=outcome.bytes_moved,
        seconds=stopwatch.seconds,
        cpu_user_seconds=stopwatch.cpu_user_seconds,
        cpu_system_seconds=stopwatch.cpu_system_seconds,
        peak_rss_bytes=peak_rss_bytes,
        set=told,
        extra=outcome.extra,
    )
    with open(sys.argv[1], "w", encoding="utf-8") as result:
        json.dump(asdict(sample), result)
    # Not through the interpreter's own end: there a thread of obstore 0.12 aborts the process, one time out of five.
    os._exit(0)


if __name__ == "__main__":
    main()
