"""A Hugging Face Hub in small, on loopback: repositories, their files by ranges, and commits.

What it answers is what ``huggingface_hub`` reads (``hf_api.py``, ``_commit_api.py``, ``lfs.py`` and
``file_download.py`` of version 2.4): model info, tree by pages, paths info, resolve with its ``X-`` headers and the
redirect of large files to another origin, preupload, LFS batch and commits that name their parent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = 4096
"""Files of so many bytes are large ones, which the storage has and not git."""

SIGNATURE = "Signature=do-not-print-me"
"""Part of every address of the storage: who has it may read the file."""

_MODEL = r"(?P<repo>[^/]+/[^/]+)"
_ROUTES = {
    ("GET", rf"/api/models/{_MODEL}"): "info",
    ("GET", rf"/api/models/{_MODEL}/revision/(?P<revision>[^/]+)"): "info",
    ("GET", rf"/api/models/{_MODEL}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?"): "tree",
    ("POST", rf"/api/models/{_MODEL}/paths-info/(?P<revision>[^/]+)"): "paths",
    ("POST", rf"/api/models/{_MODEL}/preupload/(?P<revision>[^/]+)"): "preupload",
    ("POST", rf"/api/models/{_MODEL}/commit/(?P<revision>[^/]+)"): "commit",
    ("POST", r"/api/validate-yaml"): "validate",
    ("POST", rf"/{_MODEL}\.git/info/lfs/objects/batch"): "batch",
    ("HEAD", rf"/{_MODEL}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"): "resolve",
    ("GET", rf"/{_MODEL}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"): "resolve",
}
WRITING = {"preupload", "commit", "batch"}


@dataclass(frozen=True)
class Seen:
    """A request, and how many bytes of a body were sent back for it.

    Attributes:
        origin: whom it was put to: ``hub`` or ``storage``.
        action: what it asked for; the method, where it was put to the storage.
    """

    origin: str
    action: str
    path: str
    authorization: str | None
    range: str | None
    sent: int


@dataclass
class Repo:
    """A repository: every commit's files, and what its branches and tags are."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    ignored: str | None = None

    def put(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Let a branch have these files, and return the commit."""
        content = repr((len(self.commits), sorted(files.items()))).encode()
        oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.commits[oid] = dict(files)
        self.refs[branch] = oid
        return oid

    def head(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.refs[branch]]


@dataclass
class Failure:
    """What is answered instead, so many times, to one action."""

    action: str
    status: int
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, str] = field(default_factory=dict)


class Hub:
    """The endpoint, the storage beside it, and what they have been asked.

    Attributes:
        token: who has it may read what is private, and write.
        page: entries of one page of a tree.
        ranges: whether ranges are answered as such; otherwise with the whole file.
        short: how many ranges are answered with a byte less than was asked for.
        before: called with every action before it is answered.
        after: called with every action after it was carried out; what it raises ends the connection.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.seen: list[Seen] = []
        self.failures: list[Failure] = []
        self.token = "hf_theRightOne"
        self.page = 3
        self.ranges = True
        self.short = 0
        self.before: Callable[[str], object] = lambda _: None
        self.after: Callable[[str], object] = lambda _: None
        self.lock = threading.Lock()
        self.endpoint = ""
        self.storage = ""

    def actions(self) -> list[str]:
        return [seen.action for seen in self.seen if seen.origin == "hub"]

    def fail(self, action: str, status: int, times: int = 1000, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.failures.append(Failure(action, status, times, named))

    def failure(self, action: str) -> Failure | None:
        with self.lock:
            for failure in self.failures:
                if failure.action == action and failure.times:
                    failure.times -= 1
                    return failure
        return None


def git_oid(data: bytes) -> str:
    """Return a file's name in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_large(data: bytes) -> bool:
    return len(data) >= LARGE


def entry(path: str, data: bytes) -> dict[str, Any]:
    """Return what a tree says of a file."""
    if not is_large(data):
        return {"type": "file", "oid": git_oid(data), "size": len(data), "path": path}
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
        sha256(data).encode(),
        len(data),
    )
    lfs = {"oid": sha256(data), "size": len(data), "pointerSize": len(pointer)}
    return {
        "type": "file",
        "oid": git_oid(pointer),
        "size": len(data),
        "path": path,
        "lfs": lfs,
        "xetHash": sha256(data + b"xet"),
    }


class Answer(Exception):
    """An answer that ends a request's handling."""

    def __init__(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def refusal(status: int, code: str | None, message: str) -> Answer:
    headers = {"X_Error_Message": message, "Content_Type": "application/json"}
    if code:
        headers["X_Error_Code"] = code
    return Answer(status, json.dumps({"error": message}).encode(), **headers)


def as_json(value: Any, **headers: str) -> Answer:
    return Answer(200, json.dumps(value).encode(), Content_Type="application/json", **headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    origin: str

    def log_message(self, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = b"".join(self._chunks())
        action = self.command
        try:
            if self.origin == "hub":
                action, found = self._route()
                self.hub.before(action)
                self._fail(action)
                getattr(self, action)(**found)
            else:
                self._fail("storage")
                self._storage()
            raise AssertionError(f"{action} gave no answer")
        except Answer as answer:
            self._send(answer, action)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _route(self) -> tuple[str, dict[str, Any]]:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        for (method, pattern), action in _ROUTES.items():
            match = re.fullmatch(pattern, parts.path)
            if match and method == self.command:
                return action, {name: value and unquote(value) for name, value in match.groupdict().items()}
        raise refusal(404, None, f"{self.command} {parts.path}: no such route")

    def _fail(self, action: str) -> None:
        failure = self.hub.failure(action)
        if failure:
            raise Answer(failure.status, json.dumps(failure.body).encode(), **failure.headers)

    def _send(self, answer: Answer, action: str) -> None:
        body = b"" if self.command == "HEAD" else answer.body
        seen = Seen(
            self.origin,
            action,
            unquote(self.path),
            self.headers.get("Authorization"),
            self.headers.get("Range"),
            len(body),
        )
        with self.hub.lock:
            self.hub.seen.append(seen)
        try:
            self.hub.after(action)
        except ConnectionError:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(body)

    # -- what is asked of a repository

    def _repo(self, name: str, *, writes: bool = False) -> Repo:
        repo = self.hub.repos.get(name)
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if self.headers.get("Authorization") and not known:
            raise refusal(401, None, "Invalid credentials in Authorization header")
        if repo is None or (repo.private and not known):
            raise refusal(404 if known else 401, "RepoNotFound", "Repository not found")
        if writes and not known:
            raise refusal(401, None, "Invalid username or password.")
        return repo

    def _commit_of(self, repo: Repo, revision: str | None) -> str:
        revision = revision or "main"
        commit = revision if revision in repo.commits else repo.refs.get(revision)
        if commit is None:
            raise refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def info(self, repo: str, revision: str | None = None) -> None:
        found = self._repo(repo)
        sha = self._commit_of(found, revision)
        names = [{"rfilename": name} for name in found.commits[sha]]
        raise as_json({"id": repo, "modelId": repo, "sha": sha, "private": found.private, "siblings": names})

    def tree(self, repo: str, revision: str, path: str | None) -> None:
        found = self._repo(repo)
        files = found.commits[self._commit_of(found, revision)]
        start = f"{path}/" if path else ""
        deep = self.query["recursive"] == ["true"]
        entries = [entry(name, data) for name, data in sorted(files.items()) if name.startswith(start)]
        if path and not entries:
            raise refusal(404, "EntryNotFound", f"{path} does not exist on {revision}")
        folders = {name.rpartition("/")[0] for name in files if name.startswith(start) and "/" in name} - {path, ""}
        entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in sorted(folders)]
        if not deep:
            entries = [found for found in entries if "/" not in found["path"][len(start) :]]
        at = int(self.query.get("cursor", ["0"])[0])
        page, rest = entries[at : at + self.hub.page], entries[at + self.hub.page :]
        if not rest:
            raise as_json(page)
        query = f"recursive={str(deep).lower()}&expand=false&cursor={at + len(page)}"
        target = f"{self.hub.endpoint}{urlsplit(self.path).path}?{query}"
        raise as_json(page, Link=f'<{target}>; rel="next"')

    def paths(self, repo: str, revision: str) -> None:
        found = self._repo(repo)
        files = found.commits[self._commit_of(found, revision)]
        wanted = parse_qs(self.body.decode())["paths"]
        entries = [entry(path, files[path]) for path in wanted if path in files]
        folders = [path for path in wanted if any(name.startswith(f"{path}/") for name in files)]
        raise as_json(entries + [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders])

    def resolve(self, repo: str, revision: str, path: str) -> None:
        found = self._repo(repo)
        if found.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            raise refusal(401, "GatedRepo", f"Access to model {repo} is restricted. Please log in.")
        commit = self._commit_of(found, revision)
        if path not in found.commits[commit]:
            raise refusal(404, "EntryNotFound", "Entry not found")
        data = found.commits[commit][path]
        known = {"X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        if not is_large(data):
            raise self._part(data, f'"{git_oid(data)}"', **known)
        self.hub.objects[sha256(data)] = data
        linked = {"X_Linked_Size": str(len(data)), "X_Linked_Etag": f'"{sha256(data)}"'}
        target = f"{self.hub.storage}/objects/{sha256(data)}?{SIGNATURE}&name={quote(path)}"
        raise Answer(302, b"Found", Location=target, **known, **linked)

    def _part(self, data: bytes, etag: str, **headers: str) -> Answer:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        headers = {"ETag": etag, **headers}
        if asked is None or not self.hub.ranges:
            return Answer(200, data, **headers)
        start, end = int(asked[1]), min(int(asked[2]), len(data) - 1)
        if start > end:
            return Answer(416, b"", Content_Range=f"bytes */{len(data)}", **headers)
        if self.hub.short:
            self.hub.short -= 1
            end -= 1
        return Answer(206, data[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(data)}", **headers)

    # -- what is put there

    def validate(self) -> None:
        raise as_json({"errors": [], "warnings": []})

    def preupload(self, repo: str, revision: str) -> None:
        found = self._repo(repo, writes=True)
        files = found.commits[self._commit_of(found, revision)]
        request = json.loads(self.body)
        ignored = request.get("gitIgnore") or found.ignored or ""
        answers = []
        for file in request["files"]:
            there = files.get(file["path"])
            answers.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": any(file["path"].endswith(line.lstrip("*")) for line in ignored.split()),
                    "oid": None if there is None else sha256(there) if is_large(there) else git_oid(there),
                }
            )
        raise as_json({"files": answers})

    def batch(self, repo: str) -> None:
        self._repo(repo, writes=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            action = {"upload": {"href": f"{self.hub.storage}/objects/{wanted['oid']}?{SIGNATURE}"}}
            objects.append({**wanted, **({} if wanted["oid"] in self.hub.objects else {"actions": action})})
        raise as_json({"transfer": "basic", "objects": objects})

    def commit(self, repo: str, revision: str) -> None:
        found = self._repo(repo, writes=True)
        lines = [json.loads(line) for line in self.body.splitlines()]
        head = found.refs.get(revision)
        if head is None:
            raise refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if lines[0]["value"].get("parentCommit", head) != head:
            raise refusal(412, None, "A commit has happened since. Please refresh and try again.")
        files = dict(found.commits[head])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise refusal(400, None, f"LFS pointer of {value['path']} points to an object that does not exist")
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif value["path"] in files:
                del files[value["path"]]
            else:
                raise refusal(404, "EntryNotFound", "A file with this name doesn't exist")
        oid = found.put(files, revision)
        raise as_json({"commitUrl": f"{self.hub.endpoint}/{repo}/commit/{oid}", "commitOid": oid})

    # -- the storage

    def _storage(self) -> None:
        parts = urlsplit(self.path)
        name = parts.path.removeprefix("/objects/")
        if SIGNATURE not in parts.query:
            raise Answer(403, b"<Error>AccessDenied</Error>")
        if self.command == "PUT":
            if sha256(self.body) != name:
                raise Answer(400, b"<Error>BadDigest</Error>")
            self.hub.objects[name] = self.body
            raise Answer(200)
        if name not in self.hub.objects:
            raise Answer(404, b"<Error>NoSuchKey</Error>")
        raise self._part(self.hub.objects[name], f'"{name}"')


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub and its storage, each at a port of its own, so that they are different origins."""
    servers = []
    for origin in ("hub", "storage"):
        handler = type(f"_{origin}", (_Handler,), {"hub": hub, "origin": origin})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
