"""``interlingua completion``."""

from __future__ import annotations

import click

from interlingua.cli.choices import Choice
from interlingua.cli.failures import failures
from interlingua.cli.options import HELP

PROGRAMS = ("interlingua", "convert-checkpoint", "parity-check")
"""The names that commands are started by."""

PREAMBLES = {"zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"}
"""Shell -> what its scripts need: a zsh without any configuration has not loaded its completion yet."""


@click.command(context_settings=HELP, short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
@failures
def completion(shell: str) -> None:
    """Print the script by which a shell completes commands, options, dialects, families, containers and paths.

    \b
    bash, in ~/.bashrc:   eval "$(interlingua completion bash)"
    zsh, in ~/.zshrc:     eval "$(interlingua completion zsh)"
    fish, in config.fish: interlingua completion fish | source
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise LookupError(shell)
    if shell in PREAMBLES:
        click.echo(PREAMBLES[shell])
    for program in PROGRAMS:
        variable = f"_{program}_COMPLETE".replace("-", "_").upper()
        # The script's own text: `source` would start the shell besides, to look at its version.
        made = kind(click.get_current_context().command, {}, program, variable)
        click.echo(made.source_template % made.source_vars())
