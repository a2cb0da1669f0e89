"""Stores in S3, and in anything that speaks its protocol."""

from asyncblob.s3.options import Options
from asyncblob.s3.store import S3Blob

__all__ = ["Options", "S3Blob"]
