"""Servers on loopback, and clients that neither wait between attempts nor look for anybody's credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interlingua.convert.remote import fsspec_storage, retries
from tests.convert.remote.google_server import GoogleServer, google_server
from tests.convert.remote.s3_server import BUCKET, ENVIRONMENT, S3Server, s3_server
from tests.convert.remote.web_server import WebServer, serving


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.0)


@pytest.fixture
def web(tmp_path: Path, hasty: None) -> Iterator[WebServer]:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def google(hasty: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # It asks Google's own servers.
    pytest.importorskip("gcsfs")
    with google_server() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setitem(fsspec_storage.SETTINGS, "gs", {"token": "anon"})
        yield server


@pytest.fixture(scope="session")
def s3_running() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_running: S3Server, hasty: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An S3 server with one empty bucket."""
    import fsspec

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_running.url}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    s3_running.reset()
    system = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    if system.exists(BUCKET):
        for key in system.find(BUCKET):
            system.rm_file(key)
    else:
        system.mkdir(BUCKET)
    s3_running.reset()
    return s3_running
