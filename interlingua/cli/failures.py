"""What every command does with a failure: one paragraph on standard error, and an exit code."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from interlingua.cli.terminal import paragraph
from interlingua.errors import InterlinguaError, printable

BUG = 70
"""Exit code of a failure that is this program's own (EX_SOFTWARE of sysexits.h)."""

FAULTS = (
    *(OSError, MemoryError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError),
    *(NameError, ImportError, AssertionError),
)
"""What that failure looks like."""

MOST = 4000
"""Characters of an error that are shown: names in a hostile file may be megabytes long."""

INTERRUPTED = 130


def failures(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --debug, and turn failures into one paragraph on standard error and an exit code."""

    @click.option("--debug", is_flag=True, help="Show a traceback on failure.")
    @wraps(function)
    def guarded(*args: Any, debug: bool, **options: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # A terminal may lack what a name is spelled with.
        try:
            return function(*args, **options)
        except (InterlinguaError, KeyboardInterrupt, *FAULTS) as error:
            if debug or isinstance(error, BrokenPipeError):
                raise
            message, code = _explain(error)
            click.echo(paragraph(f"interlingua: {printable(message, MOST)}", sys.stderr), err=True)
            sys.exit(code)

    return guarded


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, InterlinguaError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: the output is there whole, or not at all.", INTERRUPTED
    kind = type(error).__name__
    return f"this is a fault of interlingua itself ({kind}: {error}). Run again with --debug and report it.", BUG
