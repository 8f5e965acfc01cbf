"""Parts of files on the Hub: where a file of a commit is, and a range of its bytes.

The Hub answers for a file with its commit, size and content's name, and sends whoever wants the bytes of a large one
to a storage elsewhere, at an address that is signed and soon expires; that is kept, and asked for anew when it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from interlingua.convert.remote.storage import RemoteFile

MOST_IN_VAIN = 16 << 20
"""Bytes that are let pass before the wanted ones where ranges are not answered: small files are sent whole."""

EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What a storage answers where the signed address of a file is no longer good."""

LIBRARY = "interlingua"
_CHUNK = 1 << 20
_ANSWERED = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class ChangedError(Exception):
    """A file is not what was listed; the text ends a sentence that begins with its name."""


class CutShortError(ConnectionError):
    """An answer ended before its end."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """The files of one commit of a repository, to be read from any number of threads.

    Attributes:
        api: the Hub.
        repository: the repository's name.
        commit: the commit.
    """

    api: HfApi
    repository: str
    commit: str
    _locations: dict[str, str] = field(default_factory=dict)

    def read(self, path: str, file: RemoteFile, start: int, nbytes: int) -> bytes:
        """Return exactly ``nbytes`` bytes of the file at ``path`` in the repository.

        Raises:
            ChangedError: it is not the file that was listed.
            HfHubHTTPError, httpx2.HTTPError, ConnectionError: as huggingface_hub; it may work the next time.
        """
        known = self._locations.get(path)
        if known is not None:
            try:
                return self._range(known, file, start, nbytes)
            except HfHubHTTPError as error:
                if error.response.status_code not in EXPIRED:
                    raise
        self._locations[path] = location = self._locate(path, file)
        return self._range(location, file, start, nbytes)

    def _locate(self, path: str, file: RemoteFile) -> str:
        url = hf_hub_url(self.repository, path, revision=self.commit, endpoint=self.api.endpoint)
        found = get_hf_file_metadata(url, library_name=LIBRARY, endpoint=self.api.endpoint)
        if found.commit_hash not in (None, self.commit):
            raise ChangedError(f"the Hub answers with commit {found.commit_hash}")
        if found.size not in (None, file.size):
            raise ChangedError(f"has {found.size} bytes now, and {file.size} when it was listed")
        if found.etag and file.version and found.etag != file.version.partition(":")[2]:
            raise ChangedError("has another content than when it was listed")
        return str(found.location)

    def _range(self, location: str, file: RemoteFile, start: int, nbytes: int) -> bytes:
        # The storage is another origin, and has no business with the token; httpx2 drops it in a redirect, too.
        at_home = _origin(location) == _origin(self.api.endpoint)
        headers = build_hf_headers(token=None if at_home else False, library_name=LIBRARY)
        headers |= {"Range": f"bytes={start}-{start + nbytes - 1}", "Accept-Encoding": "identity"}
        with get_session().stream(
            "GET", location, headers=headers, follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            return _taken(_wanted(response, file, start), nbytes)


def _wanted(response: httpx2.Response, file: RemoteFile, start: int) -> Iterator[bytes]:
    """Yield the bytes of an answer from ``start`` of the file on."""
    if response.status_code == 206:
        found = _ANSWERED.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            raise CutShortError("another range is answered than was asked for")
        if int(found[3]) != file.size:
            raise ChangedError(f"has {found[3]} bytes now, and {file.size} when it was listed")
        yield from response.iter_bytes(_CHUNK)
        return
    if start > MOST_IN_VAIN:
        raise ChangedError("is not sent by ranges, as the Hub and its storage do")
    for chunk in response.iter_bytes(_CHUNK):
        skipped = min(start, len(chunk))
        start -= skipped
        yield chunk[skipped:]


def _taken(chunks: Iterator[bytes], nbytes: int) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) >= nbytes:
            return bytes(data[:nbytes])
    raise CutShortError(f"{len(data)} bytes came of {nbytes}")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
