"""``interlingua fingerprint``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from interlingua.cli.choices import PLACE
from interlingua.cli.failures import failures
from interlingua.cli.options import HELP
from interlingua.cli.terminal import print_json

if TYPE_CHECKING:
    from interlingua.convert.json_forms import FingerprintsForm


@click.command(context_settings=HELP, short_help="Print one digest for each checkpoint.")
@click.argument("sources", type=PLACE, nargs=-1, required=True, metavar="SRC...")
@click.option("--encoder", is_flag=True, help="Of the encoder alone, without pooler and heads.")
@click.option("--tensors", is_flag=True, help="Print the lines that the digest is made of.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@failures
def fingerprint(sources: tuple[str, ...], encoder: bool, tensors: bool, as_json: bool) -> None:
    """Print one digest for each checkpoint SRC: equal for the same model in any dialect."""
    from interlingua.convert.source import open_checkpoint
    from interlingua.verify import fingerprint as fingerprints

    found = []
    for source in sources:
        with open_checkpoint(source) as checkpoint:
            digest = fingerprints.fingerprint(checkpoint)
        found.append((source, digest))
        if not as_json:
            if tensors:
                click.echo("".join(digest.lines), nl=False)
            click.echo(f"{digest.encoder if encoder else digest.model}  {source}")
    if as_json:
        from interlingua.convert.json_forms import VERSION

        form: FingerprintsForm = {
            "schema": VERSION,
            "checkpoints": [
                {"path": path, "fingerprint": digest.model, "encoder_fingerprint": digest.encoder}
                for path, digest in found
            ],
        }
        print_json(form)
