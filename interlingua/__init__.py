"""Convert checkpoints of BERT-family encoders between systems, losslessly, and prove it.

import interlingua

interlingua.convert("all-MiniLM-L6-v2", "minilm-uer", to="uer")

with interlingua.open("minilm-uer") as checkpoint:
    print(checkpoint.dialect, checkpoint.heads, interlingua.fingerprint(checkpoint).model)
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

# The package `convert` is loaded before the function of that name is defined: loading it later would put the
# package in the function's place.
import_module("interlingua.convert")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Any

    from interlingua.convert.conversion import Result
    from interlingua.convert.source import Checkpoint
    from interlingua.verify.fingerprint import Fingerprint
    from interlingua.verify.parity.outcome import Outcome

Path = str | os.PathLike[str]


def convert(
    src: Path, dst: Path, *, to: str | None = None, check: bool = True, dry_run: bool = False, **options: Any
) -> Result:
    """Convert a checkpoint; the arguments are the command line's options.

    Args:
        src: a weights file, an index of shards, or a folder with either; or the URI of one, as a text.
        dst: a folder to make; or a weights file, where its name ends in a weights file's suffix; or the URI of one.
        to: the output's dialect.
        check: read the output back and hold it against the source.
        dry_run: make the plan and write nothing.
        **options: ``dialect``, ``family``, ``config``, ``vocabulary`` and ``submodel`` of the source;
            ``container``, ``dtype``, ``max_shard_size`` (bytes), ``residue``, ``preserve``, ``keep_names``,
            ``overwrite`` and ``sync`` of the output.

    Raises:
        InterlinguaError: as ``interlingua.convert.conversion.convert`` lists them.
    """
    from dataclasses import fields

    from interlingua.convert import conversion
    from interlingua.convert.source import Asked
    from interlingua.verify.written import check_weights

    known = {field.name for field in fields(Asked)}
    asked = Asked(**{key: value for key, value in options.items() if key in known})
    wanted = {key: value for key, value in options.items() if key not in known}
    return conversion.convert(
        src,
        dst,
        conversion.Options(to=to, source=asked, **wanted),
        dry_run=dry_run,
        check=check_weights if check else None,
    )


def parity(a: Path, b: Path, **options: Any) -> Outcome:
    """Run two checkpoints as their own systems would, and say whether they are the same model.

    Args:
        a: the original.
        b: what was made of it.
        **options: fields of ``interlingua.verify.parity.check.Options``, and of its ``settings``: ``device``,
            ``dtype``, ``interpreters``, ``timeout``, ``third_party``.

    Raises:
        InterlinguaError: as ``interlingua.verify.parity.check.check`` lists them.
    """
    from dataclasses import fields

    from interlingua.verify.parity import check as checks
    from interlingua.verify.parity.runs import Settings

    known = {field.name for field in fields(Settings)}
    settings = Settings(**{key: value for key, value in options.items() if key in known})
    rest = {key: value for key, value in options.items() if key not in known}
    return checks.check(a, b, checks.Options(settings=settings, **rest))


def open(src: Path, **asked: Any) -> Checkpoint:  # noqa: A001
    """Open a checkpoint for reading, as a context manager.

    Args:
        src: a weights file, an index of shards, or a folder with either; or the URI of one, as a text.
        **asked: ``dialect``, ``family``, ``config``, ``vocabulary``, ``submodel``: what is known of it.

    Raises:
        FormatError: it is missing, damaged, unsafe, or of no known container.
    """
    from interlingua.convert.source import Asked, open_checkpoint

    return open_checkpoint(src, Asked(**asked), strict=False)


def fingerprint(checkpoint: Checkpoint) -> Fingerprint:
    """Return the digests of an open checkpoint's canonical tensors.

    Raises:
        FormatError: it is damaged, or of no dialect that is known.
    """
    from interlingua.verify import fingerprint as fingerprints

    return fingerprints.fingerprint(checkpoint)
