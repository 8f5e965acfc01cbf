"""Where an output comes from, in two files of its own: ``SHA256SUMS``, and a JSON file for programs.

They are written where the output is still being made, so that they appear together with it; the same source,
options and version give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from interlingua.convert.batch.digests import file_digest, sums
from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.keys import options_dict
from interlingua.convert.batch.places import readable
from interlingua.convert.batch.remote_sources import RemoteSource
from interlingua.convert.locate import PROVENANCE
from interlingua.formats.base import create, write_at

SUMS = "SHA256SUMS"
"""What the list of digests is called in a folder."""

SCHEMA = 1
"""Version of the JSON form."""

THREADS = 2
"""Files hashed at a time."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What an output was made of.

    Attributes:
        digest: of the source's content.
        fingerprint: of the source's model; None where only the container is converted.
        version: of this program.
        remote: what its storage said of a source that is elsewhere; None where it is here.
    """

    digest: str
    fingerprint: str | None
    version: str
    remote: RemoteSource | None = None


def names(target: PurePath, *, single_file: bool) -> tuple[str, str]:
    """Return what the two files are called: beside a single file, its name comes first."""
    return (f"{target.name}.sha256", f"{target.name}.provenance.json") if single_file else (SUMS, PROVENANCE)


def write_provenance(
    job: Job, origin: Origin, folder: Path, files: Sequence[str], *, single_file: bool
) -> dict[str, str]:
    """Write both files beside what a job has written.

    Args:
        job: the job.
        origin: what the output was made of.
        folder: where its files are.
        files: their paths in there.
        single_file: whether the output is one weights file with its companions.

    Returns:
        The SHA-256 of every file by its path in the folder, the two new ones last.

    Raises:
        FormatError: a file cannot be read back.
        OutputError: the files cannot be written.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        digests = dict(zip(files, pool.map(lambda name: file_digest(folder / name), files), strict=True))
    listing, document = names(readable(job.target), single_file=single_file)
    _write(folder / document, json.dumps(_document(job, origin, digests), indent=2, ensure_ascii=False) + "\n")
    digests[document] = file_digest(folder / document)
    _write(folder / listing, sums(digests))
    digests[listing] = file_digest(folder / listing)
    return digests


def _document(job: Job, origin: Origin, digests: dict[str, str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "tool": {"name": "interlingua", "version": origin.version},
        "source": _source(job, origin),
        "options": options_dict(job.options),
        "outputs": {name: digests[name] for name in sorted(digests)},
    }


def _source(job: Job, origin: Origin) -> dict[str, Any]:
    """Return what is said of the source: of one that is elsewhere, whose bytes nobody has hashed, its versions."""
    name, found = readable(job.source).name, origin.remote
    if found is None:
        return {"name": name, "sha256": origin.digest, "fingerprint": origin.fingerprint}
    versions = {file: found.versions[file] for file in sorted(found.versions)}
    return {"name": name, "uri": found.uri, "versions": versions, "fingerprint": origin.fingerprint}


def _write(path: Path, text: str) -> None:
    # A name that is no text (its bytes are no UTF-8) is written as the bytes it has.
    data = text.encode("utf-8", "surrogateescape")
    fd = create(path)
    with open(fd, "wb", closefd=True, buffering=0):
        write_at(fd, 0, data)


def was_written_here(target: Path) -> bool:
    """Say whether an output is there that says of itself where it comes from."""
    if target.is_dir():
        return (target / PROVENANCE).is_file()
    return target.with_name(names(target, single_file=True)[1]).is_file()
