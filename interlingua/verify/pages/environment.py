"""Templates of pages: what is put into one is text and never markup, and a name that is missing is an error."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from interlingua.errors import UsageError, printable

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str, **functions: Any) -> Template:
    """Return one of the templates beside this module.

    Args:
        name: its file's name.
        **functions: what it may call.

    Raises:
        UsageError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as problem:
        hint = "Install it: pip install 'interlingua[parity]'."
        raise UsageError("A page is made with Jinja2, which is not installed.", hint=hint) from problem
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.globals.update(functions)
    text = (files("interlingua.verify.pages") / name).read_text(encoding="utf-8")
    return environment.from_string(text)


def _shown(value: Any) -> Any:
    """Return text so that it cannot change the direction of what is around it, nor be no text at all."""
    return printable(value) if type(value) is str else value
