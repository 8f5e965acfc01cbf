"""Files of a web server, which answers for ranges of bytes and lists nothing: read in place, never written.

What the standard asks (RFC 9110: ranges, ``If-Match``, ``Content-Range``) is held against what comes: an answer of
another version, another length or another place in the file is no answer. A server that knows no ranges sends each
file whole, once.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from interlingua.convert.locate import INDEX
from interlingua.convert.remote.companions import MOST_SHARDS, companion_names, data_names, weights_names
from interlingua.convert.remote.failures import CHANGED, TRY_AGAIN, reach
from interlingua.convert.remote.storage import NotThereError, RemoteFile, Tell, unheard
from interlingua.convert.remote.uris import Uri
from interlingua.errors import FormatError, UsageError
from interlingua.formats.archive_names import name_flaw
from interlingua.formats.base import write_at
from interlingua.formats.json_text import MAX_JSON, decode_json

T = TypeVar("T")

INDEX_OF_SHARDS = ".index.json"
AT_A_TIME = 8
"""Requests at a time for files that may be there."""

SECONDS = 60.0
"""Longest silence of a server."""

_ABSENT = (400, 403, 404, 405, 410)
"""Answers that say that a file nobody named is not there; some systems say 403 for 404."""

_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)")


class HttpStorage:
    """Files under one address; see ``Storage``.

    The files are the one that is named and those of usual names beside it. In a folder, which is an address that
    is not there itself or leads to one that ends with a slash, they are those of usual names.
    """

    tells = False

    def __init__(self, uri: Uri) -> None:
        import fsspec

        # trust_env: proxies and ~/.netrc.
        self._fs = fsspec.filesystem("https", use_listings_cache=False, client_kwargs={"trust_env": True})
        self._uri = uri
        self._scheme = uri.scheme
        self._base = uri
        self._found: dict[str, RemoteFile] | None = None
        self._whole: dict[str, int] = {}
        self._kept = ExitStack()
        self._one_at_a_time = threading.Lock()
        self.named = ""
        self.uri = str(uri)

    def files(self) -> tuple[RemoteFile, ...]:
        if self._found is None:
            self._found = {}
            self._look()
        return tuple(self._found[name] for name in sorted(self._found))

    def _look(self) -> None:
        """Find what is there: the file that is named, or a prefix of that name, or a folder."""
        name = unquote(self._uri.name) if self._uri.path else ""
        file = self._described(self._uri, name, asked=True) if name else None
        prefix = self._described(self._sibling(INDEX), name + INDEX) if name and file is None else None
        if file is not None or prefix is not None:
            self.named, self._base = name, self._uri.parent
            self.uri = str(self._base)
            self._take(file, prefix)
        else:
            self._try(weights_names())
        if not self._found:
            raise NotThereError(
                "does not exist, or is a folder without a file of a usual name",
                path=str(self._uri),
                hint="A web server's folders cannot be listed: name the weights file itself.",
            )
        self._try(companion_names(self.named))
        for index in [name for name in self._found or {} if name.endswith(INDEX_OF_SHARDS)]:
            self._try(self._shards_of(index))
        for index in [name for name in self._found or {} if name.endswith(INDEX)]:
            self._try_data(index.removesuffix(INDEX))

    def _take(self, *files: RemoteFile | None) -> None:
        found = self._found if self._found is not None else {}
        found.update({file.name: file for file in files if file is not None})

    def _try(self, names: Iterable[str]) -> None:
        wanted = [name for name in names if name not in (self._found or {})]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            self._take(*pool.map(lambda name: self._described(self._address(name), name), wanted))

    def _try_data(self, prefix: str) -> None:
        """Find a TensorFlow checkpoint's data files, of which the first says how many there are."""
        firsts = [data_names(prefix, count)[0] for count in range(1, MOST_SHARDS + 1)]
        self._try(firsts[:1])
        if firsts[0] not in (self._found or {}):
            self._try(firsts[1:])
            for count, first in enumerate(firsts, 1):
                if first in (self._found or {}):
                    self._try(data_names(prefix, count))

    def _shards_of(self, index: str) -> list[str]:
        """Return the files that an index names; whether it is one is for its reader to say."""
        file = (self._found or {})[index]
        if file.size > MAX_JSON:
            return []
        try:
            document = decode_json(self.read(file, 0, file.size))
        except ValueError:
            return []
        shards = document.get("weight_map") if isinstance(document, dict) else None
        names = set(shards.values()) if isinstance(shards, dict) else set()
        return sorted(name for name in names if isinstance(name, str) and "/" not in name and not name_flaw(name))

    def _sibling(self, ending: str) -> Uri:
        return Uri(self._uri.scheme, self._uri.authority, self._uri.path + ending)

    def _address(self, name: str) -> Uri:
        return Uri(self._base.scheme, self._base.authority, f"{self._base.path}/{quote(name)}".lstrip("/"))

    def _described(self, address: Uri, name: str, *, asked: bool = False) -> RemoteFile | None:
        """Return a file, as the server describes it; None where it is not there, or is a folder's listing."""

        def look() -> RemoteFile | None:
            return self._wait(self._head(address, name, asked))

        return reach(look, str(address), self._scheme)

    async def _head(self, address: Uri, name: str, asked: bool) -> RemoteFile | None:
        async with await self._request("HEAD", address) as answer:
            if answer.status == 404 or (not asked and answer.status in _ABSENT):
                return None
            answer.raise_for_status()
            # A page that says in words that nothing is there is no companion; a folder's address ends with a slash.
            is_page = answer.headers.get("Content-Type", "").startswith("text/html")
            if str(answer.url.path).endswith("/") or (is_page and not asked):
                return None
            flaw = name_flaw(name)
            length = answer.headers.get("Content-Length", "")
            if flaw or not length.isdigit():
                problem = f"has a name that {flaw}" if flaw else "is of a length that the server does not say"
                raise FormatError(problem, path=str(address), hint="Download it, and name the file.")
            return RemoteFile(name, int(length), _version(answer.headers))

    def read(self, file: RemoteFile, start: int, nbytes: int) -> bytes:
        if nbytes == 0:
            return b""
        address = self._address(file.name)
        if file.name not in self._whole:
            data = reach(lambda: self._wait(self._part(file, start, nbytes)), str(address), self._scheme)
            if data is not None:
                return data
            self._fetch_whole(file)
        return os.pread(self._whole[file.name], nbytes, start)

    async def _part(self, file: RemoteFile, start: int, nbytes: int) -> bytes | None:
        """Return a part of a file; None where the server would send the whole of it."""
        headers = {"Range": f"bytes={start}-{start + nbytes - 1}", **_condition(file)}
        async with await self._request("GET", self._address(file.name), headers) as answer:
            if answer.status == 200:
                return None
            answer.raise_for_status()
            self._hold(file, answer.headers)
            found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if found is None or (int(found[1]), int(found[2])) != (start, start + nbytes - 1):
                raise FormatError("the server sends another part than was asked for", path=self._shown(file))
            if found[3] not in ("*", str(file.size)):
                raise self._changed(file)
            data = await answer.read()
        if len(data) != nbytes:
            raise ConnectionError(f"{len(data)} bytes came where {nbytes} were asked for")
        return bytes(data)

    def _fetch_whole(self, file: RemoteFile) -> None:
        """Keep the file of a server that knows no ranges in a temporary file without a name."""
        with self._one_at_a_time:
            if file.name in self._whole:
                return
            kept, path = tempfile.mkstemp(prefix="interlingua-")
            self._kept.callback(os.close, kept)
            os.unlink(path)
            reach(lambda: self._wait(self._download(file, kept)), self._shown(file), self._scheme)
            self._whole[file.name] = kept

    async def _download(self, file: RemoteFile, kept: int) -> None:
        async with await self._request("GET", self._address(file.name), _condition(file)) as answer:
            answer.raise_for_status()
            self._hold(file, answer.headers)
            done = 0
            async for chunk in answer.content.iter_chunked(1 << 20):
                if done + len(chunk) > file.size:
                    raise self._changed(file)
                write_at(kept, done, chunk)
                done += len(chunk)
        if done != file.size:
            raise ConnectionError(f"{done} bytes came where {file.size} were announced")

    def _hold(self, file: RemoteFile, headers: Mapping[str, str]) -> None:
        """Refuse an answer of another version; one that does not say its version is of the one before."""
        now = _version(headers)
        if now is not None and file.version is not None and now != file.version:
            raise self._changed(file)

    def _shown(self, file: RemoteFile) -> str:
        return str(self._address(file.name))

    def _changed(self, file: RemoteFile) -> FormatError:
        return FormatError(CHANGED, path=self._shown(file), hint=TRY_AGAIN)

    async def _request(
        self, method: str, address: Uri, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Any]:
        import aiohttp

        session = await self._fs.set_session()
        answer: AbstractAsyncContextManager[Any] = session.request(
            method,
            self._fs.encode_url(str(address)),
            allow_redirects=True,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS),
        )
        return answer

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._fs.loop).result()

    def local(self, file: RemoteFile) -> Path | None:
        return None

    def upload(self, folder: Path, names: Sequence[str], *, overwrite: bool, tell: Tell = unheard) -> None:
        raise UsageError(f"{self._uri}: nothing is written to a web server.", hint="Choose another place.")

    def close(self) -> None:
        self._kept.close()


def _version(headers: Mapping[str, str]) -> str | None:
    for key, kind in (("ETag", "etag"), ("Last-Modified", "date")):
        if headers.get(key):
            return f"{kind}:{headers[key]}"
    return None


def _condition(file: RemoteFile) -> dict[str, str]:
    """Return the header by which a server refuses to answer of another version; a weak ETag matches nothing."""
    kind, _, value = (file.version or "").partition(":")
    return {"If-Match": value} if kind == "etag" and not value.startswith("W/") else {}
