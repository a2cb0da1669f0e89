"""The clients that are compared, by name. To add one: a module with a `Client`, and a line here."""

from __future__ import annotations

from benchmarks.peers.base import Peer

__all__ = ["OURS", "PEERS"]

OURS = "asyncblob"
"""The peer that the others are compared with; takes part in every comparison."""

_BOTH_WAYS = frozenset({"upload", "download"})

PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "asyncblob S3Blob", "benchmarks.peers.s3blob:S3BlobClient", offers=_BOTH_WAYS),
        Peer(
            "boto3",
            "boto3, set as S3Blob",
            "benchmarks.peers.boto:Boto3Client",
            offers=_BOTH_WAYS,
            modules=("boto3", "awscrt"),  # awscrt computes its CRC64NVME
            distributions=("boto3", "botocore", "s3transfer", "urllib3", "awscrt"),
        ),
        Peer(
            "boto3-defaults",
            "boto3, its own defaults",
            "benchmarks.peers.boto:DefaultBoto3Client",
            offers=_BOTH_WAYS,
            modules=("boto3",),
            distributions=("boto3", "botocore", "s3transfer", "urllib3"),
        ),
    )
}
