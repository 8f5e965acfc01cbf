"""A web server on loopback that knows ranges and conditions, counts what it sends, and fails on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from tests.convert.remote.serving import served


@dataclass
class WebServer:
    """What it serves, what it did, and how it misbehaves.

    Attributes:
        root: the folder that is served.
        sent: bytes of contents that were sent.
        asked: (method, path, header Range) of each request.
        failures: requests that are still answered with 503.
        hang_ups: GETs that are still broken off in the middle.
        ignores_ranges: send whole files.
        conditional: requests with If-Match so far.
        conditions: hold If-Match (without, a changed file is only seen by its ETag).
        tags: say ETags (without, neither those nor dates).
        secret: the Authorization that is asked for.
    """

    root: Path
    url: str = ""
    sent: int = 0
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    failures: int = 0
    hang_ups: int = 0
    ignores_ranges: bool = False
    conditions: bool = True
    conditional: int = 0
    tags: bool = True
    secret: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def tag_of(path: Path) -> str:
    status = path.stat()
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


@contextmanager
def serving(root: Path) -> Iterator[WebServer]:
    state = WebServer(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            path = state.root / unquote(self.path).lstrip("/")
            asked = self.headers.get("Range")
            with state.lock:
                state.asked.append((self.command, self.path, asked))
                state.conditional += "If-Match" in self.headers
                fails = state.failures > 0
                state.failures -= fails
                breaks = with_body and not fails and state.hang_ups > 0
                state.hang_ups -= breaks
            if fails:
                self.say(503)
            elif state.secret is not None and self.headers.get("Authorization") != state.secret:
                self.say(401)
            elif path.is_dir():
                self.listing(path)
            elif not path.is_file():
                self.say(404)
            elif state.conditions and self.headers.get("If-Match", tag_of(path)) != tag_of(path):
                self.say(412)
            else:
                self.content(path, None if state.ignores_ranges else asked, with_body, breaks)

        def say(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def listing(self, path: Path) -> None:
            if not self.path.endswith("/"):
                self.send_response(301)
                self.send_header("Location", self.path + "/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def content(self, path: Path, asked: str | None, with_body: bool, breaks: bool) -> None:
            size = path.stat().st_size
            start, end = 0, size
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "")
            if found is not None:
                start, end = int(found[1]), min(size, int(found[2]) + 1)
            if found is not None and start >= size:
                self.say(416)
                return
            self.send_response(200 if found is None else 206)
            self.send_header("Content-Length", str(end - start))
            if found is not None:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            if state.tags:
                self.send_header("ETag", tag_of(path))
            self.end_headers()
            if not with_body:
                return
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(end - start)
            if breaks:
                data = data[: len(data) // 2]
                self.close_connection = True
            with state.lock:
                state.sent += len(data)
            self.wfile.write(data)

    with served(Handler) as state.url:
        yield state
