"""``--version``: this package, Python, NumPy, and what is installed of the frameworks; none of them is imported."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import click

from interlingua import __version__

PACKAGES = {
    "NumPy": ("numpy",),
    "PyTorch": ("torch",),
    "transformers": ("transformers",),
    "TensorFlow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel"),
    "KerasHub": ("keras-hub",),
    "Paddle": ("paddlepaddle", "paddlepaddle-gpu"),
    "PaddleNLP": ("paddlenlp",),
    "MindSpore": ("mindspore",),
    "mindone": ("mindone",),
}
"""What a package that computes, or has models, is called -> the distributions that may bring it."""


def show_versions(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Print the versions, and end the command."""
    if not wanted or context.resilient_parsing:
        return
    click.echo("\n".join(_lines()))
    context.exit()


def _lines() -> Iterator[str]:
    yield f"interlingua {__version__}"
    yield f"Python {platform.python_version()}"
    for name, distributions in PACKAGES.items():
        found = next(filter(None, map(_version, distributions)), None)
        if found is not None:
            yield f"{name} {found}"


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
