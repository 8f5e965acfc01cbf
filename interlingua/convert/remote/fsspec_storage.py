"""Storages of objects by their fsspec file systems: S3, Google Cloud Storage, and this process's memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from interlingua.convert.remote.failures import CHANGED, TRY_AGAIN, reach
from interlingua.convert.remote.retries import status_of
from interlingua.convert.remote.storage import MOST_FILES, NotThereError, RemoteFile, Tell, unheard
from interlingua.convert.remote.uris import Uri
from interlingua.errors import FormatError, OutputError
from interlingua.formats.archive_names import name_flaw

DEPTH = 3
"""How far below a folder files belong to a checkpoint: its own folders, and theirs (a sentence encoder's modules)."""

SETTINGS: dict[str, dict[str, Any]] = {
    # Retries are this package's own: those of the clients would multiply with them.
    "s3": {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}}},
}

PART = 16 << 20
"""Bytes of a part in which a large file is sent."""

MOST_PARTS = 10_000
"""Parts that an S3 object has at most."""

AT_ONCE = 4
"""Parts that are in memory and on their way to S3 at a time; ten of 50 MB are, where s3fs is not told."""

_VERSIONS = {"s3": "ETag", "gs": "generation"}
"""Scheme -> what of a file's description changes with its content."""


NOT_IMPLEMENTED = 501


@contextlib.contextmanager
def _sent(file: Path, tell: Tell) -> Iterator[Any]:
    """Yield what fsspec tells of a file that it sends; where that fails, what was told of it is taken back."""
    from fsspec.callbacks import Callback

    told = 0

    def heard(_: int | None, value: int, **__: object) -> None:
        nonlocal told
        tell(value - told)
        told = value

    try:
        yield Callback(hooks={"tell": heard})
    except BaseException:
        tell(-told)
        raise
    tell(file.stat().st_size - told)


class _AppearedError(OutputError):
    """Somebody else's file has appeared at a place that was free."""


class FsspecStorage:
    """A folder of a bucket (or of memory); see ``Storage``.

    An S3 object is read under its ETag (``If-Match``), one of Google's by its generation; what memory holds is
    looked at again after each read.
    """

    tells = True

    def __init__(self, uri: Uri) -> None:
        import fsspec

        self._uri = uri
        self._scheme = uri.scheme
        self._fs = fsspec.filesystem(uri.scheme, use_listings_cache=False, **SETTINGS.get(uri.scheme, {}))
        if uri.scheme in ("s3", "gs"):
            self._fs.retries = 1
        self._base = str(uri)
        self._found: tuple[RemoteFile, ...] | None = None
        self.named = ""
        self.uri = str(uri)

    def files(self) -> tuple[RemoteFile, ...]:
        if self._found is None:
            self._found = reach(self._list, str(self._uri), self._scheme)
        return self._found

    def _list(self) -> tuple[RemoteFile, ...]:
        kind = self._kind()
        if kind != "directory":
            self.named, self._base = self._uri.name, str(self._uri.parent)
            self.uri = self._base
        entries = self._deep() if kind == "directory" else self._shallow()
        found = sorted(entries, key=lambda file: file.name)
        if kind is None and not any(file.name.startswith(f"{self.named}.") for file in found):
            raise NotThereError("does not exist", path=str(self._uri))
        if kind == "directory" and not found:
            raise NotThereError("is an empty folder", path=str(self._uri))
        return tuple(found)

    def _kind(self) -> str | None:
        """Return ``file`` or ``directory``; None where there is neither, so that it may be what names begin with."""
        if not self._uri.path:
            return "directory"
        try:
            return str(self._fs.info(str(self._uri))["type"])
        except FileNotFoundError:
            return None

    def _shallow(self) -> Iterator[RemoteFile]:
        try:
            entries = self._fs.ls(self._base, detail=True)
        except FileNotFoundError:
            return
        yield from self._files_of("", {entry["name"].rpartition("/")[2]: entry for entry in entries})

    def _deep(self) -> Iterator[RemoteFile]:
        root = self._fs._strip_protocol(self._base)
        count = 0
        for folder, _, entries in self._fs.walk(self._base, maxdepth=DEPTH, detail=True, on_error="raise"):
            below = folder[len(root) :].strip("/")
            count += len(entries)
            if count > MOST_FILES:
                raise FormatError(
                    f"holds more than {MOST_FILES} files", path=str(self._uri), hint="Name the checkpoint's own folder."
                )
            yield from self._files_of(f"{below}/" if below else "", entries)

    def _files_of(self, below: str, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[RemoteFile]:
        if len(entries) > MOST_FILES:
            raise FormatError(f"more than {MOST_FILES} files are beside it", path=str(self._uri))
        for name, entry in entries.items():
            if entry["type"] != "file" or not name:
                continue  # Some tools mark a folder by an empty object whose name ends with a slash.
            flaw = name_flaw(below + name)
            if flaw:
                raise FormatError(f"holds a file {below + name!r}, whose name {flaw}", path=str(self._uri))
            yield RemoteFile(below + name, int(entry["size"] or 0), self._version(entry))

    def _version(self, entry: Mapping[str, Any]) -> str | None:
        if self._scheme == "memory":
            return f"created:{self._fs.created(entry['name'])}"
        key = _VERSIONS[self._scheme]
        return f"{key.lower()}:{entry[key]}" if entry.get(key) else None

    def _address(self, name: str) -> str:
        return f"{self._base.rstrip('/')}/{name}"

    def read(self, file: RemoteFile, start: int, nbytes: int) -> bytes:
        read = {"s3": self._read_s3, "gs": self._read_gs}.get(self._scheme, self._read_any)

        def once() -> bytes:
            data = read(file, start, nbytes)
            if len(data) != nbytes:
                raise ConnectionError(f"{len(data)} bytes came where {nbytes} were asked for")
            return data

        return reach(once, self._address(file.name), self._scheme)

    def _read_s3(self, file: RemoteFile, start: int, nbytes: int) -> bytes:
        from fsspec.asyn import sync

        bucket, key, _ = self._fs.split_path(self._address(file.name))
        match = {"IfMatch": file.version.partition(":")[2]} if file.version else {}

        async def taken() -> bytes:
            async with answer["Body"] as body:
                return bytes(await body.read())

        part = f"bytes={start}-{start + nbytes - 1}"
        answer = self._fs.call_s3("get_object", Bucket=bucket, Key=key, Range=part, **match)
        return bytes(sync(self._fs.loop, taken))

    def _read_gs(self, file: RemoteFile, start: int, nbytes: int) -> bytes:
        generation = file.version.partition(":")[2] if file.version else None
        try:
            return bytes(self._fs.cat_file(self._address(file.name), start, start + nbytes, generation=generation))
        except FileNotFoundError as error:
            # A generation that was replaced is gone, where the bucket keeps no old ones.
            raise FormatError(CHANGED, path=self._address(file.name), hint=TRY_AGAIN) from error

    def _read_any(self, file: RemoteFile, start: int, nbytes: int) -> bytes:
        data = bytes(self._fs.cat_file(self._address(file.name), start, start + nbytes))
        entry = self._fs.info(self._address(file.name))
        if (entry["size"], self._version(entry)) != (file.size, file.version):
            raise FormatError(CHANGED, path=self._address(file.name), hint=TRY_AGAIN)
        return data

    def local(self, file: RemoteFile) -> Path | None:
        return None

    def upload(self, folder: Path, names: Sequence[str], *, overwrite: bool, tell: Tell = unheard) -> None:
        single = names[0] == self._uri.name
        base = str(self._uri.parent if single else self._uri)
        old = self._in_the_way(names, single)
        if old and not overwrite:
            raise OutputError(
                f"{base}: {', '.join(old[:8])} is there already.", hint="Choose another place, or pass --overwrite."
            )
        placed: list[str] = []
        try:
            for name in old:
                self._write(partial(self._fs.rm_file, f"{base}/{name}"))
            for name in reversed(names):
                placed.append(name)  # Of a request that failed nobody knows what it did.
                self._write(partial(self._put, folder / name, f"{base}/{name}", overwrite, tell))
        except BaseException as error:
            if isinstance(error, _AppearedError):
                placed.pop()  # Somebody else's.
            for name in reversed(placed):
                with contextlib.suppress(Exception):
                    self._fs.rm_file(f"{base}/{name}")
            raise

    def _in_the_way(self, names: Sequence[str], single: bool) -> list[str]:
        """Return what is there and would be replaced: what makes a checkpoint of it first, and what goes for good."""
        storage = FsspecStorage(self._uri.parent if single else self._uri)
        try:
            there = [file.name for file in storage.files() if not single or file.name in names]
        except NotThereError:
            return []
        if storage.named:
            raise OutputError(f"{self._uri}: is a file, and the output is a folder.", hint="Choose another place.")
        return sorted(there, key=lambda name: (names.index(name) if name in names else -1, name))

    def _write(self, action: Callable[[], object]) -> None:
        try:
            reach(action, str(self._uri), self._scheme)
        except FormatError as error:
            if CHANGED in error.message:
                text = "appeared while it was being written"
                raise _AppearedError(f"{self._uri}: {text}.", hint="Somebody else writes there.") from error
            text = error.message.removeprefix(f"{self._uri}: ").replace("cannot be read", "cannot be written")
            raise OutputError(f"{self._uri}: {text}", hint=error.hint) from error

    def _put(self, file: Path, address: str, overwrite: bool, tell: Tell) -> None:
        if self._scheme == "memory":
            self._fs.pipe_file(address, file.read_bytes())  # Whole at once: what is written bit by bit is seen so.
            tell(file.stat().st_size)
            return
        how, mode = self._parts(file.stat().st_size), "overwrite" if overwrite else "create"
        try:
            with _sent(file, tell) as sent:
                self._fs.put_file(str(file), address, mode=mode, callback=sent, **how)
        except Exception as error:  # Each system's client has errors of its own; they are told apart by status.
            if overwrite or status_of(error) != NOT_IMPLEMENTED:
                raise
            # A server that has no conditions for writing.
            with _sent(file, tell) as sent:
                self._fs.put_file(str(file), address, callback=sent, **how)

    def _parts(self, nbytes: int) -> dict[str, int]:
        """Return how a file is to be sent, in ``put_file``'s words."""
        if self._scheme == "gs":
            return {"chunksize": PART}
        return {"chunksize": max(PART, -(-nbytes // MOST_PARTS)), "max_concurrency": AT_ONCE}

    def close(self) -> None:
        pass
