"""As much of Google Cloud Storage's JSON API as reading, writing and listing takes, on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.convert.remote.serving import served


@dataclass
class GoogleServer:
    """Its address, and its objects: key -> (generation, content)."""

    url: str = ""
    objects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    generation: int = 1


@contextmanager
def google_server() -> Iterator[GoogleServer]:
    state = GoogleServer()

    def described(key: str) -> dict[str, Any]:
        generation, data = state.objects[key]
        digest = base64.b64encode(hashlib.md5(data).digest()).decode()
        about = {"kind": "storage#object", "name": key, "bucket": "zoo", "size": str(len(data)), "md5Hash": digest}
        return {**about, "generation": str(generation), "metageneration": "1"}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def say(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            key = unquote(parts.path.partition("/o/")[2])
            if not key:
                self.listing(query)
            elif key not in state.objects or query.get("generation", str(state.objects[key][0])) != str(
                state.objects[key][0]
            ):
                self.say(404, {"error": {"code": 404, "message": "none"}})
            elif query.get("alt") == "media":
                data = state.objects[key][1]
                found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                start, end = (int(found[1]), int(found[2]) + 1) if found else (0, len(data))
                self.say(206 if found else 200, data[start:end])
            else:
                self.say(200, described(key))

        def listing(self, query: dict[str, str]) -> None:
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
            keys = sorted(key for key in state.objects if key.startswith(prefix))
            below = {key[: key.index("/", len(prefix)) + 1] for key in keys if delimiter and "/" in key[len(prefix) :]}
            items = [described(key) for key in keys if not (delimiter and "/" in key[len(prefix) :])]
            self.say(200, {"kind": "storage#objects", "items": items, "prefixes": sorted(below)})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            mark = b"--" + self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
            _, about, content, _ = body.split(mark)
            key = json.loads(about.partition(b"\n\n" if b"\n\n" in about else b"\r\n\r\n")[2])["name"]
            data = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[1]
            data = data.removesuffix(b"\n").removesuffix(b"\r")
            if "ifGenerationMatch=0" in self.path and key in state.objects:
                self.say(412, {"error": {"code": 412, "message": "there"}})
                return
            state.generation += 1
            state.objects[key] = state.generation, data
            self.say(200, described(key))

        def do_DELETE(self) -> None:
            state.objects.pop(unquote(urlsplit(self.path).path.partition("/o/")[2]), None)
            self.say(204, b"")

    with served(Handler) as state.url:
        yield state
