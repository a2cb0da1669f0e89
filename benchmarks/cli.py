"""The command line: ``python -m benchmarks SCENARIO|GROUP|all|list|plot``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit

from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]  # its stubs are a large package of their own
from botocore.exceptions import BotoCoreError, ClientError

from asyncblob import BlobError, Options
from asyncblob.engine.plan import plan_upload
from benchmarks import machine
from benchmarks.model import MIB, RunError, Settings, Target
from benchmarks.peers import OTHERS, OURS, PEERS
from benchmarks.plot import draw
from benchmarks.results import Results
from benchmarks.runner import Runner
from benchmarks.scenarios import SCENARIOS, choose
from benchmarks.scenarios.base import Scenario
from benchmarks.servers import SERVERS
from benchmarks.servers.base import Server
from benchmarks.servers.link.start import LinkSettings, why_no_link
from benchmarks.table import as_markdown
from benchmarks.workbench import ContentError, Sizes, Workbench

__all__ = ["main"]

_TMPFS = "/dev/shm"
_CHOSEN = ("concurrency", "part_size_mb")
"""The URL's parameters that the command line can set for all peers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure or plot; returns the exit status."""
    told = _parser().parse_args(arguments)
    try:
        if told.command == "list":
            print(_listing(), end="")
        elif told.command == "plot":
            draw([_read(path) for path in told.results], told.out, ratios=told.ratios)
        else:
            _measure(told)
    except (
        BlobError,
        Boto3Error,
        BotoCoreError,
        ClientError,
        ContentError,
        OSError,
        RunError,
        RuntimeError,
        ValueError,
    ) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _read(path: str) -> Results:
    with open(path, encoding="utf-8") as file:
        return Results.from_json(file.read())


def _measure(told: argparse.Namespace) -> None:
    scenarios: Sequence[Scenario] = choose()[told.command]
    with (
        _serving(told, scenarios) as server,
        tempfile.TemporaryDirectory(prefix="asyncblob-bench-", dir=told.directory) as files,
    ):
        target, settings = _target(server, told)
        scenarios = _possible(scenarios, target)
        sizes = Sizes(
            file_bytes=told.size_mb * MIB,
            large_bytes=told.large_mb * MIB,
            small_count=told.count,
            many_count=told.many,
            many_bytes=told.many_mb * MIB,
        )
        link = LinkSettings(told.link_mb_s, told.link_stalls_every, told.link_limit)
        results = Results(machine.facts(), _run_facts(told, server, settings, scenarios, sizes, link))
        bench = Workbench(server, target, files, sizes, link)
        with contextlib.closing(bench):
            runner = Runner(
                bench=bench,
                target=target,
                settings=settings,
                environment=_environment(server),
                peers=told.peers,
                rounds=told.rounds,
                warm_up_rounds=told.warm_up_rounds,
                patience_seconds=told.patience,
                report=lambda line: print(line, file=sys.stderr, flush=True),
            )
            for scenario in scenarios:
                results.comparisons.append(runner.compare(scenario))
                if told.json:  # after each: a run of all takes long
                    with open(told.json, "w", encoding="utf-8") as file:
                        file.write(results.to_json())
    print(as_markdown(results), end="")


def _possible(scenarios: Sequence[Scenario], target: Target) -> Sequence[Scenario]:
    """Those that can be measured there."""
    why = why_no_link(target) if any(scenario.needs_link for scenario in scenarios) else ""
    if not why:
        return scenarios
    if len(scenarios) == 1:
        raise ValueError(why)
    print(f"without a link, for {why}", file=sys.stderr)
    return [scenario for scenario in scenarios if not scenario.needs_link]


@contextmanager
def _serving(told: argparse.Namespace, scenarios: Sequence[Scenario]) -> Iterator[Server]:
    if not any(scenario.needs_server for scenario in scenarios):
        yield Server(title="none", url="s3://none-needed", environment={}, exists=False)
    elif told.url:
        parts = urlsplit(told.url)
        endpoint = dict(parse_qsl(parts.query)).get("endpoint", "AWS")
        yield Server(title=f"s3://{parts.netloc} at {endpoint}", url=told.url)
    else:
        with SERVERS[told.server](told.directory, tls=told.tls) as server:
            yield server


def _target(server: Server, told: argparse.Namespace) -> tuple[Target, Settings]:
    """Where to, below a prefix that nobody else uses, and how."""
    parts = urlsplit(server.url)
    parameters = dict(parse_qsl(f"{parts.query}&{told.options}", keep_blank_values=True))
    chosen = {name: str(getattr(told, name)) for name in _CHOSEN if getattr(told, name)}
    chosen = {name: parameters.pop(name) for name in _CHOSEN if name in parameters} | chosen
    path = f"{parts.path.rstrip('/')}/asyncblob-bench-{uuid.uuid4().hex[:12]}"
    whole = parts._replace(path=path, query=urlencode(parameters | chosen)).geturl()
    options = Options.from_url(whole)
    plan = plan_upload(told.size_mb * MIB, part_size_bytes=options.part_size_mb * MIB, concurrency=options.concurrency)
    target = Target(
        url=parts._replace(path=path, query=urlencode(parameters)).geturl(),
        bucket=options.bucket,
        prefix=options.prefix,
        endpoint=options.s3_endpoint,
        region=options.region,
        path_style=options.use_path_style,
        profile=options.profile,
        authority=server.authority or os.environ.get("AWS_CA_BUNDLE", ""),
    )
    settings = Settings(
        concurrency=options.concurrency or plan.concurrency,
        part_size_bytes=plan.part_size,
        signs_payload=options.signs_payload,
        checksum=options.checksum != "none",
        chosen=tuple(name for name in chosen),
    )
    return target, settings


def _run_facts(
    told: argparse.Namespace,
    server: Server,
    settings: Settings,
    scenarios: Sequence[Scenario],
    sizes: Sizes,
    link: LinkSettings,
) -> dict[str, str]:
    each = {scenario.name: scenario.size(sizes) for scenario in scenarios}
    different = [f"{name} {size}" for name, size in each.items()]
    return {
        "server": server.title,
        **({"options": told.options} if told.options else {}),
        **({"link": str(link)} if any(scenario.needs_link for scenario in scenarios) else {}),
        "size": different[0].partition(" ")[2] if len(set(each.values())) == 1 else ", ".join(different),
        "rounds": f"{told.rounds}, interleaved, after {told.warm_up_rounds} that don't count",
        "parts": f"{settings.part_size_bytes / MIB:g} MiB, {settings.concurrency} at once",
        "files": told.directory,
    }


def _environment(server: Server) -> dict[str, str]:
    """What the measured processes see: with a server of ours, nothing of the caller's AWS configuration."""
    if server.environment is None:
        return dict(os.environ)
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_") and not name.lower().endswith("_proxy")
    }
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {**clean, **nowhere, "AWS_EC2_METADATA_DISABLED": "true", **server.environment}


def _listing() -> str:
    """Scenarios, groups, servers and peers, and what each peer lacks here."""
    names = choose()
    lines = ["scenarios:"]
    for name, scenarios in names.items():
        lines.append(f"  {name}: {_what(name, scenarios)}")
    lines += [f"servers: {', '.join(sorted(SERVERS))}", "peers:"]
    for name, peer in PEERS.items():
        lines.append(f"  {name}: {peer.why_missing() or peer.title}")
    return "\n".join(lines) + "\n"


def _what(name: str, scenarios: Sequence[Scenario]) -> str:
    return scenarios[0].title if name in SCENARIOS else ", ".join(each.name for each in scenarios)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare asyncblob with its peers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, scenarios in choose().items():
        _add_options(commands.add_parser(name, help=f"measure {_what(name, scenarios)}"))
    commands.add_parser("list", help="say which scenarios, servers and peers there are, and what is missing")
    plot = commands.add_parser("plot", help="draw results as an SVG")
    plot.add_argument("--ratios", action="store_true", help="how many times better asyncblob is, not the figures")
    plot.add_argument("results", metavar="RESULTS.json", nargs="+")
    plot.add_argument("out", metavar="OUT.svg")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--url", help="a store as S3Blob takes it, s3://bucket/prefix?endpoint=…; credentials from the environment"
    )
    where.add_argument("--server", choices=sorted(SERVERS), default="weed", help="start this one (default: weed)")
    parser.add_argument("--tls", action="store_true", help="with --server nothing: over TLS")
    parser.add_argument(
        "--options",
        default="",
        metavar="NAME=VALUE&…",
        help="more parameters of the URL, for all variants of S3Blob",
    )
    parser.add_argument("--peers", type=_peers, default=OTHERS, help=f"of {','.join(OTHERS)} (default: all)")
    parser.add_argument("--size-mb", type=_positive, default=512, help="of the file, in MiB (default: 512)")
    parser.add_argument("--large-mb", type=_positive, default=4096, help="for memory, loop-lag and local-upload (4096)")
    parser.add_argument("--count", type=_positive, default=2000, help="of small objects (2000)")
    parser.add_argument("--many", type=_positive, default=100, metavar="N", help="transfers at once, for many (100)")
    parser.add_argument("--many-mb", type=_positive, default=16, help="of each of those, in MiB (16)")
    parser.add_argument("--link-mb-s", type=_positive, default=100, help="of bad-link, each way, decimal (100)")
    parser.add_argument(
        "--link-stalls-every", type=_positive, default=10, metavar="N", help="one connection of so many stalls (10)"
    )
    parser.add_argument(
        "--link-limit",
        type=_positive,
        default=120,
        metavar="SECONDS",
        help="a disturbed run is ended after ten times its undisturbed time, but not before that (120)",
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="that count (default: 5)")
    parser.add_argument("--warm-up-rounds", type=int, choices=range(10), default=1, metavar="N", help="before (1)")
    parser.add_argument("--concurrency", type=_positive, default=0, help="parts in flight, for all (S3Blob's own)")
    parser.add_argument("--part-size-mb", type=_positive, default=0, help="in MiB, for all (S3Blob's own)")
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="SECONDS", help="wait so long before a round for idle cores (0)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all samples and summaries")
    parser.add_argument(
        "--directory",
        default=_TMPFS if os.access(_TMPFS, os.W_OK) else tempfile.gettempdir(),
        help="for the files, and the data of a server of ours: in memory, so that no disk is measured (%(default)s)",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be over 0")
    return value


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in (OURS, *OTHERS):
            raise argparse.ArgumentTypeError(f"no peer {name!r}; there are {', '.join((OURS, *OTHERS))}")
    return names
