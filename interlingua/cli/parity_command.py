"""``interlingua parity``, which is ``parity-check`` too."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlingua.cli.choices import DIALECT, FAMILY, PLACE, Choice
from interlingua.cli.failures import failures
from interlingua.cli.options import HELP, Command, asked_of
from interlingua.cli.terminal import open_console, print_json, working
from interlingua.errors import UsageError, suggestion

if TYPE_CHECKING:
    from interlingua.verify.parity.check import Options as ParityOptions
    from interlingua.verify.parity.outcome import Outcome


def sides_options(function: Command) -> Command:
    """Add the options that say what is known of the sides of a parity check: ``--config-a`` and so on."""
    known = (
        ("from", "dialect", "DIALECT", DIALECT),
        ("family", "family", "FAMILY", FAMILY),
        ("config", "config", "FILE", PLACE),
        ("vocab", "vocab", "FILE", PLACE),
        ("submodel", "submodel", "PREFIX", click.STRING),
    )
    for side in ("b", "a"):
        for option, name, metavar, kind in reversed(known):
            words = f"As --{option} of `convert`, for {side.upper()}."
            add = click.option(f"--{option}-{side}", f"{name}_{side}", type=kind, metavar=metavar, help=words)
            function = add(function)
    return function


@click.command(
    "parity", context_settings=HELP, short_help="Run two checkpoints, and say whether they are the same model."
)
@click.argument("a", type=PLACE)
@click.argument("b", type=PLACE, required=False)
@click.option("--against", type=click.Path(), metavar="FILE", help="Compare A with activations that were kept in FILE.")
@click.option("--save-activations", "save", type=click.Path(), metavar="FILE", help="Keep A's activations in FILE.")
@sides_options
@click.option("--device", type=Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to run.")
@click.option(
    "--dtype",
    type=Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Element type that both sides compute in.",
)
@click.option("--batch", "rows", type=click.IntRange(1, 64), default=4, show_default=True, help="Rows to run.")
@click.option("--seq-len", "length", type=click.IntRange(2, 8192), help="Tokens of the longest (default: all, to 512).")
@click.option("--seed", type=click.IntRange(0), help="Seed of the random tokens.")
@click.option("--text", type=click.Path(), metavar="FILE", help="Sentences to run besides, one a line.")
@click.option("--no-text", is_flag=True, help="Run no sentences, and leave the vocabularies alone.")
@click.option("--atol", type=click.FloatRange(0), default=0.0, help="Absolute error that passes besides noise.")
@click.option("--rtol", type=click.FloatRange(0), default=0.0, help="Relative error that passes besides noise.")
@click.option("--strict", is_flag=True, help="Exit with 1 where conventions make the outputs differ, too.")
@click.option(
    "--python", "pythons", multiple=True, metavar="FRAMEWORK=FILE", help="The Python that a framework is installed in."
)
@click.option("--own", is_flag=True, help="Run this package's own encoders, whoever else's are installed.")
@click.option("--timeout", type=click.FloatRange(1), default=900.0, show_default=True, help="Seconds a side may take.")
@click.option("--report", type=click.Path(), metavar="FILE.html", help="Write a page with everything that was found.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Show a line for every layer.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@failures
def parity(a: str, b: str | None, **options: Any) -> None:
    """Run the checkpoints A and B as their own systems would, and say whether they are the same model.

    A is the original and B what was made of it. Without B, A is held against the float64 oracle alone; with
    --against, against activations that another run has kept. Exit code 1 where they are different.
    """
    from interlingua.verify.parity import check as checks

    if b is not None and options["against"]:
        raise UsageError("B and --against are two ways to name the other side.", hint="Leave out one of them.")
    wanted = _parity_options(options)
    with working("running both sides", options["quiet"] or options["as_json"]):
        if b is not None:
            outcome = checks.check(a, b, wanted)
        elif options["against"]:
            outcome = checks.check_against(a, Path(options["against"]), wanted)
        else:
            outcome = checks.check_one(a, wanted)
    show_parity(outcome, options)
    sys.exit(outcome.exit_code(strict=options["strict"]))


def _parity_options(options: dict[str, Any]) -> ParityOptions:
    from interlingua.verify.parity.batch import SEED
    from interlingua.verify.parity.check import Options
    from interlingua.verify.parity.outcome import Thresholds
    from interlingua.verify.parity.references import FRAMEWORKS
    from interlingua.verify.parity.runs import Settings
    from interlingua.verify.text import SENTENCES, read_sentences

    interpreters = dict(entry.partition("=")[::2] for entry in options["pythons"])
    for framework, interpreter in interpreters.items():
        if framework not in FRAMEWORKS or not interpreter:
            hint = "" if framework in FRAMEWORKS else suggestion(framework, FRAMEWORKS)
            raise UsageError(f"--python takes FRAMEWORK=FILE, FRAMEWORK one of {', '.join(FRAMEWORKS)}.", hint=hint)
    sides = [
        asked_of(*(options[f"{key}_{side}"] for key in ("dialect", "family", "config", "vocab", "submodel")))
        for side in ("a", "b")
    ]
    sentences = tuple(read_sentences(options["text"])) if options["text"] else SENTENCES
    return Options(
        a=sides[0],
        b=sides[1],
        settings=Settings(
            device=options["device"],
            dtype=options["dtype"],
            interpreters=interpreters,
            timeout=options["timeout"],
            third_party=not options["own"],
        ),
        rows=options["rows"],
        length=options["length"],
        seed=SEED if options["seed"] is None else options["seed"],
        sentences=() if options["no_text"] else sentences,
        thresholds=Thresholds(atol=options["atol"], rtol=options["rtol"]),
        save=Path(options["save"]) if options["save"] else None,
        command=shlex.join(["parity-check", *sys.argv[2 if sys.argv[1:2] == ["parity"] else 1 :]]),
    )


def show_parity(outcome: Outcome, options: dict[str, Any]) -> None:
    """Print what a parity check found, and write its page, as the options ask for it."""
    if options["report"]:
        from interlingua.verify.pages.page import write_page

        write_page(outcome, Path(options["report"]))
    if options["as_json"]:
        print_json(outcome.as_dict())
    elif not options["quiet"]:
        from interlingua.verify.pages.terminal import show_outcome

        show_outcome(open_console(), outcome, options["verbose"])
