"""What a pattern stands for where folders can be listed: buckets, and a repository on the Hub at one commit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import PurePosixPath

from interlingua.convert.remote.failures import reach
from interlingua.convert.remote.opening import open_storage
from interlingua.convert.remote.uris import Uri, parse
from interlingua.errors import FormatError, UsageError

SIGNS = "*["
"""What makes a pattern of a URI, in which a question mark has another meaning."""


def is_pattern(uri: Uri) -> bool:
    """Say whether a URI stands for several."""
    return any(sign in uri.path for sign in SIGNS)


def matches(uri: Uri) -> tuple[Uri, ...]:
    """Return the files and folders that a pattern stands for, in order; hidden ones where it says so.

    ``*`` and ``[...]`` stand for what they do in a shell, ``**`` for folders at any depth. Of what is on the Hub,
    the repository's name is no pattern, and what is returned is of the commit that its revision is now.

    Raises:
        UsageError: folders cannot be listed there, or the packages that it takes are not installed.
        FormatError: the storage cannot be reached, or access is refused.
    """
    if uri.scheme in ("http", "https"):
        raise UsageError(f"{uri}: a web server lists no folders, so that nothing matches.", hint="Name each source.")
    found = _on_the_hub(uri) if uri.scheme == "hf" else _in_a_bucket(uri)
    asked = any(part.startswith(".") for part in uri.path.split("/"))
    names = {str(each): each for each in found if asked or not _is_hidden(each)}
    for name in names:
        parse(name)  # A name that no URI can have is refused here.
    return tuple(names[name] for name in sorted(names))


def _is_hidden(uri: Uri) -> bool:
    return any(part.startswith(".") for part in uri.path.split("/"))


def _in_a_bucket(uri: Uri) -> Iterable[Uri]:
    with closing(open_storage(uri)):
        pass  # What it takes is installed, or this says what is missing.
    import fsspec

    system = fsspec.filesystem(uri.scheme, use_listings_cache=False)
    found = reach(lambda: list(system.glob(str(uri))), str(uri), uri.scheme)
    names = (str(name).strip("/") for name in found)
    if uri.authority:
        return [Uri(uri.scheme, uri.authority, name.partition("/")[2]) for name in names]
    return [Uri(uri.scheme, "", name) for name in names]


def _on_the_hub(uri: Uri) -> Iterable[Uri]:
    parts = uri.path.split("/")
    plain = next(number for number, part in enumerate(parts) if any(sign in part for sign in SIGNS))
    if plain == 0:
        raise UsageError(f"{uri}: the repositories of an organisation are not listed.", hint="Name each of them.")
    with closing(open_storage(Uri(uri.scheme, uri.authority, "/".join(parts[:plain])))) as storage:
        files = [file.name for file in storage.files()]
        base = parse(storage.uri)
    if base is None or storage.named:
        raise FormatError("is a file, and is listed as a folder", path=str(uri))
    folders = {str(above) for name in files for above in PurePosixPath(name).parents} - {"."}
    pattern = _translated("/".join(parts[plain:]))
    fitting = [name for name in (*files, *folders) if pattern.fullmatch(name)]
    return [Uri(base.scheme, base.authority, f"{base.path}/{name}") for name in fitting]


def _translated(pattern: str) -> re.Pattern[str]:
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(pattern))
