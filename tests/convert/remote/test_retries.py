from __future__ import annotations

import asyncio

import pytest

from interlingua.convert.remote import retries
from interlingua.convert.remote.failures import reach, said
from interlingua.convert.remote.retries import ATTEMPTS, LONGEST_PAUSE, TransientError, is_transient, persistent
from interlingua.convert.remote.storage import NotThereError
from interlingua.errors import FormatError


class Flaky:
    def __init__(self, failures: int, error: BaseException) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


class StatusError(Exception):
    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.0)


def test_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 1.0)
    pauses: list[float] = []
    assert persistent(Flaky(9, TransientError("busy")), attempts=10, pause=pauses.append) == "done"
    assert all(min(LONGEST_PAUSE, 2**n) / 2 <= pause <= min(LONGEST_PAUSE, 2**n) for n, pause in enumerate(pauses))
    assert len(pauses) == 9


def test_attempts_are_bounded() -> None:
    flaky = Flaky(100, TransientError("busy"))
    with pytest.raises(TransientError, match="busy"):
        persistent(flaky)
    assert flaky.calls == ATTEMPTS


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_answer_that_may_change_is_asked_for_again(status: int) -> None:
    flaky = Flaky(ATTEMPTS - 1, StatusError(status))
    assert reach(flaky, "s3://a", "s3") == "done"
    assert flaky.calls == ATTEMPTS


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StatusError(403), "access is refused"),
        (StatusError(404), "does not exist"),
        (StatusError(412), "changed while it was read"),
        (FileNotFoundError("x"), "does not exist"),
        (PermissionError("x"), "access is refused"),
        (ValueError("x"), "cannot be read: ValueError: x"),
    ],
)
def test_an_answer_that_will_not_change_is_taken(error: Exception, text: str) -> None:
    flaky = Flaky(1, error)
    with pytest.raises(FormatError, match=f"s3://a: {text}"):
        reach(flaky, "s3://a", "s3")
    assert flaky.calls == 1


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), asyncio.TimeoutError(), BrokenPipeError()])
def test_a_broken_connection_is_made_again(error: Exception) -> None:
    assert reach(Flaky(2, error), "s3://a", "s3") == "done"


def test_who_gives_up_says_how_often_it_was_tried() -> None:
    with pytest.raises(FormatError, match=rf"cannot be reached: .*reset.* \({ATTEMPTS} attempts\)"):
        reach(Flaky(100, ConnectionResetError("reset")), "s3://a", "s3")


def test_the_status_is_that_of_the_cause() -> None:
    error = OSError("wrapped")
    error.__cause__ = StatusError(503)
    assert is_transient(error)
    error.__cause__ = StatusError(403)
    assert not is_transient(error)


def test_real_clients_errors_are_known() -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    slow = exceptions.ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "Get")
    refused = exceptions.ClientError({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "Get")
    assert is_transient(slow)
    assert not is_transient(refused)
    assert is_transient(exceptions.EndpointConnectionError(endpoint_url="http://x"))
    aiohttp = pytest.importorskip("aiohttp")
    assert is_transient(aiohttp.ServerDisconnectedError())
    assert is_transient(aiohttp.ClientPayloadError())
    assert not is_transient(exceptions.NoCredentialsError())


def test_a_signed_address_is_not_said() -> None:
    assert "secret" not in said(OSError("GET https://host/a?X-Amz-Signature=secret&x=secret failed"))


def test_nothing_there_is_told_from_other_failures() -> None:
    with pytest.raises(NotThereError):
        reach(Flaky(1, FileNotFoundError()), "s3://a", "s3")
