"""Values of options that are one of several names: shells complete them, and a typo is told what was probably meant.

Only dialects and families that are installed are known, and finding them takes a moment: names are looked up when a
shell asks for them, and held against what there is by the command itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from interlingua.errors import suggestion

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    AnyText = click.ParamType[str, str]
    AnyChoice = click.Choice[str]
else:  # Older versions of click have no parameters there.
    AnyText = click.ParamType
    AnyChoice = click.Choice


class Name(AnyText):
    """A text that is one of the names that ``known`` finds, with what each is called."""

    name = "text"

    def __init__(self, known: Callable[[click.Context], Mapping[str, str]]) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return list(_items(self.known(ctx), incomplete))


class Choice(AnyChoice):
    """One of a few names that are known beforehand."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(super().convert(value, param, ctx))
        except click.BadParameter:
            names = [str(name) for name in self.choices]
            self.fail(f"There is no {str(value)!r} here. {suggestion(str(value), names)}", param, ctx)


def _items(known: Mapping[str, str], incomplete: str) -> Iterator[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    for name, title in known.items():
        if name.startswith(incomplete):
            yield CompletionItem(name, help=title)


def _dialects(_: click.Context) -> dict[str, str]:
    from interlingua.mappings.registry import DIALECTS

    return {dialect.name: dialect.title for dialect in DIALECTS.values()}


def _families(_: click.Context) -> dict[str, str]:
    from interlingua.mappings.registry import families

    return dict.fromkeys(families(), "")


def _containers(context: click.Context) -> dict[str, str]:
    """Return the containers that the target dialect can be in, where it is named already; else all that are written."""
    from interlingua.formats.registry import CONTAINERS

    target = context.params.get("to")
    if target:
        from interlingua.mappings.registry import DIALECTS

        if target in DIALECTS:
            return {name: CONTAINERS[name].title for name in DIALECTS[target].containers}
    return {name: container.title for name, container in CONTAINERS.items() if container.writes}


DIALECT = Name(_dialects)
FAMILY = Name(_families)
CONTAINER = Name(_containers)

PLACE = click.Path(readable=False)
"""A path or a URI: shells complete paths, and the command says what is wrong with it."""
