"""The policy of checksums: tried first, given up only for a service that refuses them and takes the upload without."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from asyncblob.engine.retry import Verdict
from asyncblob.s3.checksums import ChecksumPolicy
from asyncblob.s3.failures import ChecksumRefused, ConnectionFailure, Corrupted, ServiceFailure

REFUSAL = ServiceFailure(501, "NotImplemented", "A header you provided implies functionality that is not implemented")


class Service:
    """Takes uploads, with checksums or without, or refuses them."""

    def __init__(self, policy: ChecksumPolicy, *, with_crc: Exception | None, without: Exception | None = None) -> None:
        self.policy = policy
        self.answers = {True: with_crc, False: without}
        self.asked: list[bool] = []

    async def run(self, with_crc: bool) -> str:
        self.asked.append(with_crc)
        failure = self.answers[with_crc]
        if failure is None:
            return "with" if with_crc else "without"
        special: Callable[[Exception], Verdict | None] = self.policy.refusal(with_crc)
        assert special(failure) is None  # may raise
        raise failure


def make(option: str = "auto") -> ChecksumPolicy:
    return ChecksumPolicy(option, store="s3://bucket")


async def test_an_upload_carries_a_checksum() -> None:
    """A service that takes it gets one with every upload."""
    policy = make()
    service = Service(policy, with_crc=None)
    assert [await policy.upload(service.run) for _ in range(3)] == ["with"] * 3
    assert service.asked == [True] * 3
    assert policy.verifies


async def test_a_service_that_refuses_it_gets_the_upload_without(caplog: pytest.LogCaptureFixture) -> None:
    """Once tried and refused, the store goes on without, and says so once."""
    policy = make()
    service = Service(policy, with_crc=REFUSAL)
    with caplog.at_level(logging.WARNING, "asyncblob"):
        assert [await policy.upload(service.run) for _ in range(3)] == ["without"] * 3
    assert service.asked == [True, False, False, False]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "s3://bucket refuses checksums" in caplog.text
    assert policy.verifies, "downloads are still checked"


async def test_a_request_that_is_wrong_anyway_doesnt_end_checksums(caplog: pytest.LogCaptureFixture) -> None:
    """If the upload fails without a checksum too, that failure is raised, and the next upload carries one again."""
    policy = make()
    other = ServiceFailure(400, "InvalidArgument")
    service = Service(policy, with_crc=ServiceFailure(400, "InvalidArgument"), without=other)
    with pytest.raises(ServiceFailure) as caught:
        await policy.upload(service.run)
    assert caught.value is other
    assert caplog.records == []
    service.answers = {True: None, False: None}
    assert await policy.upload(service.run) == "with"


async def test_a_service_that_has_taken_one_is_taken_at_its_word() -> None:
    """After a success with a checksum, the same reply means what it says, and the upload is not made again."""
    policy = make()
    service = Service(policy, with_crc=None)
    await policy.upload(service.run)
    service.answers[True] = REFUSAL
    with pytest.raises(ServiceFailure) as caught:
        await policy.upload(service.run)
    assert caught.value is REFUSAL
    assert service.asked == [True, True]


@pytest.mark.parametrize(
    "failure", [ServiceFailure(403, "AccessDenied"), ServiceFailure(400, "BadDigest"), ConnectionFailure("broke")]
)
async def test_another_failure_is_no_refusal(failure: Exception) -> None:
    """What has nothing to do with checksums is raised, and nothing is sent again here."""
    policy = make()
    service = Service(policy, with_crc=failure)
    with pytest.raises(type(failure)) as caught:
        await policy.upload(service.run)
    assert caught.value is failure
    assert service.asked == [True]


async def test_a_checksum_that_was_asked_for_is_never_left_out() -> None:
    """With ``checksum=crc64nvme`` a service that refuses it is an error."""
    policy = make("crc64nvme")
    service = Service(policy, with_crc=REFUSAL)
    with pytest.raises(ServiceFailure) as caught:
        await policy.upload(service.run)
    assert caught.value is REFUSAL
    assert service.asked == [True]
    assert policy.verifies


async def test_none_sends_none_and_checks_none() -> None:
    """With ``checksum=none`` neither uploads nor downloads have one."""
    policy = make("none")
    service = Service(policy, with_crc=REFUSAL)
    assert await policy.upload(service.run) == "without"
    assert service.asked == [False]
    assert not policy.verifies


async def test_a_refused_checksum_keeps_its_cause() -> None:
    """What is raised inside the upload names the service's own reply."""
    special = make().refusal(True)
    with pytest.raises(ChecksumRefused) as caught:
        special(REFUSAL)
    assert caught.value.__cause__ is REFUSAL


@pytest.mark.parametrize("option", ["auto", "crc64nvme", "none"])
def test_without_a_checksum_nothing_is_a_refusal(option: str) -> None:
    """A request that carried none can't have been refused for it."""
    assert make(option).refusal(False)(REFUSAL) is None


@pytest.mark.parametrize(
    ("sent", "echo", "checked"), [(5, 5, True), (0, 0, True), (5, None, False), (None, 5, False), (None, None, False)]
)
def test_an_echo_is_compared_where_there_is_one(sent: int | None, echo: int | None, checked: bool) -> None:
    """Only what was sent and said again is checked; a CRC of zero is one."""
    assert make().check_echo(sent, echo) is checked


def test_another_echo_is_a_failure() -> None:
    """The service received other bytes: both checksums are in the error."""
    with pytest.raises(Corrupted) as caught:
        make().check_echo(0xAE8B14860A799888, 0)
    assert "rosUhgp5mIg=" in str(caught.value)
    assert "AAAAAAAAAAA=" in str(caught.value)
