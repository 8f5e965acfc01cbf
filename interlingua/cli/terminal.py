"""What is printed where: consoles, JSON documents, and signs of life on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

import click

from interlingua.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def open_console(*, err: bool = False) -> Console:
    """Return the console on standard output, or on standard error."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    shown, styled = stream.isatty(), wants_styles(stream)
    return Console(
        stderr=err,
        highlight=False,
        force_terminal=shown or styled,
        color_system="auto" if styled else None,
        no_color=not styled,
        # What is piped or redirected is for programs and files: no line is broken there.
        soft_wrap=not shown,
        width=None if shown else 250,
    )


def wants_styles(stream: TextIO) -> bool:
    """Say whether colours and bold type go to a stream: to a terminal that has them, unless variables say otherwise.

    NO_COLOR and CLICOLOR=0 keep them away (https://no-color.org, https://bixense.com/clicolors); FORCE_COLOR and
    CLICOLOR_FORCE ask for them where output is piped, too. NO_COLOR wins.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb" and os.environ.get("CLICOLOR") != "0"


def say(parts: Iterable[str | Table]) -> None:
    """Print sentences and tables on standard output; no name out of a file can do anything there."""
    for part in parts:
        if isinstance(part, str):
            click.echo(paragraph(printable(part), sys.stdout))
        else:
            open_console().print(part)


def paragraph(text: str, stream: TextIO) -> str:
    """Return a message for a stream: on a terminal, lines break between words, and never inside a path."""
    if not stream.isatty():
        return text
    import shutil
    import textwrap

    columns = shutil.get_terminal_size().columns
    return textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False)


def has_live_display() -> bool:
    """Say whether standard error can show what changes: a terminal whose cursor moves."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def print_json(value: object) -> None:
    """Print a value as a JSON document."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # A path that is no text, or a terminal without Unicode: JSON has escapes for both.
        text = json.dumps(value, indent=2, allow_nan=False)
    click.echo(text)


@contextlib.contextmanager
def working(words: str, silent: bool) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    if silent or not has_live_display():
        yield
        return
    with open_console(err=True).status(words):
        yield
