"""What the parent tells a measuring child, and what comes back: plain values that survive JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = ["Job", "RunError", "RunLimitError", "Sample", "Settings", "Target"]

MIB = 2**20


class RunError(Exception):
    """A run failed; the message ends with what it printed."""


class RunLimitError(RunError):
    """A run did not end in its time."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the bucket is, taken apart for peers that know nothing of asyncblob's URLs.

    Attributes:
        url: As `S3Blob.open` takes it, without the settings of `Settings`.
        bucket: The bucket's name.
        prefix: What precedes every key, joined to it by ``/``; may be empty.
        endpoint: The service's URL; ``""`` = AWS.
        region: ``""`` = the environment's or the profile's.
        path_style: Whether the bucket goes into the path.
        profile: The AWS profile; ``""`` = the environment's.
        authority: Whose certificates to trust, a PEM file; ``""`` = those that the system trusts.
    """

    url: str
    bucket: str
    prefix: str
    endpoint: str
    region: str
    path_style: bool
    profile: str = ""
    authority: str = ""

    @property
    def is_encrypted(self) -> bool:
        """Whether the connections are."""
        return not self.endpoint.startswith("http://")

    def key(self, name: str) -> str:
        """The whole key of a name below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name


@dataclass(frozen=True, slots=True)
class Settings:
    """How to transfer: what S3Blob does by itself or was told to, for the peers to do the same as far as they can.

    Attributes:
        concurrency: Parts in flight.
        part_size_bytes: The size of a part.
        signs_payload: Whether the payload's SHA-256 is part of the signature.
        checksum: Whether a CRC64NVME travels with an upload and is checked on a download.
        chosen: The settings that were given on the command line; the others are S3Blob's own choice.
    """

    concurrency: int
    part_size_bytes: int
    signs_payload: bool
    checksum: bool
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One run in one child.

    Attributes:
        scenario: Its name in the registry.
        peer: Its name in the registry.
        target: Where the bucket is.
        settings: How to transfer.
        arguments: What else the scenario's child needs: paths and keys.
    """

    scenario: str
    peer: str
    target: Target
    settings: Settings
    arguments: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        settings = Settings(**{**values["settings"], "chosen": tuple(values["settings"]["chosen"])})
        return cls(values["scenario"], values["peer"], Target(**values["target"]), settings, values["arguments"])


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured. The timed part alone, but for the memory, which is the process's peak.

    Attributes:
        bytes_moved: Bytes of content that were moved.
        seconds: Wall-clock time.
        cpu_user_seconds: In user mode, of the client's process; of a client that is a program, the program's.
        cpu_system_seconds: In the kernel, of the same.
        peak_rss_bytes: The largest resident set that the client's process had at any time; of a client that is a
            program, the program's.
        round: Which round of the comparison the run belongs to, from 1; 0 = a warm-up that doesn't count.
        busy_percent: How busy all cores of the machine were just before the round.
        set: What the peer was told, for the reader.
        extra: What only this scenario measures, by name.
        has_failed: Whether it failed, in a scenario where that is a result; the other figures are those up to then.
        outcome: What became of it, in words, in such a scenario.
    """

    bytes_moved: int
    seconds: float
    cpu_user_seconds: float
    cpu_system_seconds: float
    peak_rss_bytes: int
    round: int = 0
    busy_percent: float = 0.0
    set: dict[str, str] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)
    has_failed: bool = False
    outcome: str = ""

    @property
    def cpu_seconds(self) -> float:
        """In user mode and in the kernel."""
        return self.cpu_user_seconds + self.cpu_system_seconds
