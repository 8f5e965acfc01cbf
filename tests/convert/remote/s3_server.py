"""moto's S3 server on loopback, which shows what each write left behind, and fails on demand."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

BUCKET = "zoo"

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-is-shown",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class S3Server:
    """What it did, and how it misbehaves.

    Attributes:
        url: its endpoint.
        asked: (method, path) of each request.
        seen: what is in the bucket after each write.
        failures: requests that are still answered with 503.
        unconditional: answer what has the header If-None-Match with 501.
        refuses: says of a method and a path whether that is answered with 403 for good.
    """

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    seen: list[frozenset[str]] = field(default_factory=list)
    failures: int = 0
    unconditional: bool = False
    refuses: Callable[[str, str], bool] = lambda method, path: False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def held(self) -> frozenset[str]:
        from moto.s3.models import s3_backends

        return frozenset(s3_backends["123456789012"]["aws"].buckets[BUCKET].keys)

    def reset(self) -> None:
        self.asked.clear()
        self.seen.clear()
        self.failures = 0
        self.unconditional = False
        self.refuses = lambda method, path: False


@contextmanager
def s3_server() -> Iterator[S3Server]:
    pytest.importorskip("s3fs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moto's own, and its dependencies'.
        server = pytest.importorskip("moto.server")
        serving = pytest.importorskip("werkzeug.serving")
        application = server.DomainDispatcherApplication(server.create_backend_app)
    state = S3Server()

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with state.lock:
            state.asked.append((method, path))
            fails = state.failures > 0
            state.failures -= fails
        unknown = state.unconditional and "HTTP_IF_NONE_MATCH" in environ
        if fails or unknown or state.refuses(method, path):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status = "503 Slow Down" if fails else "501 Not Implemented" if unknown else "403 Forbidden"
            start(status, [("Content-Length", "0")])
            return [b""]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body: list[bytes] = list(application(environ, start))
        if method in ("PUT", "POST", "DELETE") and path.count("/") > 1:
            with state.lock:
                state.seen.append(state.held())
        return body

    class Quiet(serving.WSGIRequestHandler):
        def log(self, *args: object) -> None:
            pass

    running = serving.make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}"
    try:
        yield state
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
