"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlingua.cli.choices import DIALECT, FAMILY, PLACE

if TYPE_CHECKING:
    from interlingua.convert.source import Asked

Command = TypeVar("Command", bound=Callable[..., Any])

HELP = {"help_option_names": ["-h", "--help"]}
"""Settings of every command that has a name of its own: ``-h`` helps there too."""


def source_options(function: Command) -> Command:
    """Add the options that say what is known of a source."""
    options = (
        click.option(
            "--from", "dialect", type=DIALECT, metavar="DIALECT", help="The source's dialect (default: found out)."
        ),
        click.option(
            "--family", type=FAMILY, metavar="FAMILY", help="The model's family, whatever its configuration says."
        ),
        click.option("--config", type=PLACE, metavar="FILE", help="The source's configuration."),
        click.option("--vocab", type=PLACE, metavar="FILE", help="The source's vocabulary."),
        click.option("--submodel", metavar="PREFIX", help="Which model to take where a file holds several."),
    )
    for option in reversed(options):  # The one that is added last is the first that help shows.
        function = option(function)
    return function


def asked_of(
    dialect: str | None, family: str | None, config: str | None, vocab: str | None, submodel: str | None
) -> Asked:
    """Return what the options say of a source."""
    from interlingua.convert.source import Asked

    return Asked(dialect, family, config or None, vocab or None, submodel)
