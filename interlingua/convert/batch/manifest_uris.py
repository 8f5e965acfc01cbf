"""URIs in a manifest: what they stand for, and errors that name the line and the key where one is."""

from __future__ import annotations

import posixpath
from pathlib import Path

from interlingua.convert.batch.expansion import MAX_JOBS
from interlingua.convert.batch.manifest_yaml import Document, Place
from interlingua.convert.batch.places import identity
from interlingua.convert.remote.patterns import is_pattern, matches
from interlingua.convert.remote.uris import Uri, resolve
from interlingua.errors import InterlinguaError
from interlingua.formats.archive_names import name_flaw

NEVER_WRITTEN = {
    "http": "nothing is written to a web server",
    "https": "nothing is written to a web server",
}
"""Scheme -> why it is no place for outputs."""

WRITTEN = "Write to a path, s3://, gs:// or hf://."


def place_of(text: str, document: Document, place: Place, *, written: bool = False) -> Uri | Path:
    """Return the URI or the path that a text of a manifest is.

    Args:
        text: the text, its variables replaced.
        document: the manifest.
        place: where it is in there.
        written: whether outputs go there.

    Raises:
        UsageError: it is a URI that cannot be used there.
    """
    try:
        found = resolve(text)
    except InterlinguaError as error:
        raise document.error(place, error.message.removesuffix("."), error.hint) from error
    if isinstance(found, Uri) and found.scheme == "memory":
        raise document.error(place, f"{found} is gone with its process, and each job has its own")
    if written and isinstance(found, Uri) and found.scheme in NEVER_WRITTEN:
        raise document.error(place, f"{found}: {NEVER_WRITTEN[found.scheme]}", WRITTEN)
    return found


def joined(folder: Uri, output: str, document: Document, place: Place) -> Uri:
    """Return the URI of an output below a folder.

    Raises:
        UsageError: it would be elsewhere.
    """
    below = posixpath.normpath(output)
    flaw = name_flaw(below)
    if flaw is not None:
        raise document.error(place, f"the output {output!r} {flaw}", "Outputs are below `folder`.")
    found = place_of(f"{folder}/{below}", document, place, written=True)
    assert isinstance(found, Uri)
    return found


def matching(source: Uri, made: Uri | None, document: Document, place: Place) -> list[str]:
    """Return the sources that a URI stands for: itself, or what matches it where it is a pattern.

    Args:
        source: the URI.
        made: the folder of all outputs, where that is elsewhere: what is in there is no source.
        document: the manifest.
        place: where the source is in there.

    Raises:
        UsageError: nothing matches, or the storage cannot be listed.
    """
    if not is_pattern(source):
        return [str(source)]
    try:
        found = [str(match) for match in matches(source)]
    except InterlinguaError as error:
        raise document.error(place, error.message.removesuffix("."), error.hint) from error
    if len(found) > MAX_JOBS:
        raise document.error(place, f"{source} matches more than {MAX_JOBS} files and folders")
    outputs = identity(str(made)) if made is not None else None
    left = [match for match in found if outputs is None or identity(match)[: len(outputs)] != outputs]
    if not left:
        raise document.error(place, f"{source} matches nothing")
    return left
