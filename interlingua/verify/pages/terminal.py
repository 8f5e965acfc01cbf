"""What a parity check prints for people: the verdict first, then figures, folded while all is well."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from interlingua.verify.pages.reading import (
    CONVENTION,
    NO,
    YES,
    Line,
    about,
    answers,
    error,
    failing,
    lines,
    merged,
    next_steps,
    percent,
    units,
)
from interlingua.verify.parity.outcome import BY_CONVENTION, SAME, Gap, Outcome, Side
from interlingua.verify.report import MOST, plain_table, shown

STYLES = {YES: "green", CONVENTION: "yellow", NO: "bold red", SAME: "bold green", BY_CONVENTION: "bold yellow"}
"""Colours, each beside a word that says the same."""


def show_outcome(console: Console, outcome: Outcome, verbose: bool = False) -> None:
    """Print what a parity check found.

    Args:
        console: where to; colours are its affair.
        outcome: what was found.
        verbose: whether everything is printed: each activation of each batch, settings, refused references.
    """
    console.print(shown(f"verdict: {outcome.verdict}", STYLES.get(outcome.verdict, "bold red")))
    _items(console, "because", outcome.reasons)
    console.print()
    for side in (outcome.a, outcome.b):
        _show_side(console, side, verbose)
    console.print()
    _show_answers(console, outcome)
    if verbose or not _all_well(outcome):
        _show_lines(console, outcome, verbose)
    if verbose:
        _show_worst(console, outcome)
    _show_differences(console, outcome)
    _show_why(console, outcome)
    console.print()
    _items(console, "note", outcome.notes)
    _items(console, "next", next_steps(outcome))
    if outcome.command:  # One line, however long, so that it can be copied.
        console.print(shown(f"again: {outcome.command}"), soft_wrap=True)


def _all_well(outcome: Outcome) -> bool:
    found = lines(outcome)
    return bool(found) and not any(failing(line, outcome) for line in found)


def _show_side(console: Console, side: Side, verbose: bool) -> None:
    facts = list(about(side))
    if verbose or side.failure is not None:
        facts += [f"refused: {name}: {why}" for name, why in side.refused]
    if verbose:
        facts += [f"fingerprint {side.fingerprint}"] if side.fingerprint else []
        facts.append(f"{side.seconds:.1f} s")
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    grid.add_row(shown(side.label, "bold"), shown(side.path, "bold"))
    for fact in facts:
        grid.add_row("", shown(fact))
    console.print(grid)


def _show_answers(console: Console, outcome: Outcome) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for answer in answers(outcome):
        text = shown(answer.question)
        text.append_text(shown(f" {answer.figures}", "dim"))
        grid.add_row(shown(answer.word, STYLES.get(answer.word, "")), text)
    console.print(grid)


def _show_lines(console: Console, outcome: Outcome, verbose: bool) -> None:
    found = lines(outcome)
    if not found:
        return
    several = verbose and len({line.batch for line in found}) > 1
    table = plain_table("activation", "A - oracle", "B - oracle", "A - B", "", right=COMPARED)
    for line in found if verbose else merged(found, outcome.thresholds):
        name = f"{line.name} ({line.batch})" if several else line.name
        word = _word(line, outcome)
        cells = [_cell(gap) for gap in (line.a, line.b, line.both)]
        table.add_row(shown(name), *map(shown, cells), shown(word, STYLES.get(word.partition(" ")[0], "")))
    console.print()
    console.print(table)
    scope = "" if several else "; the worst of all batches" if len({line.batch for line in found}) > 1 else ""
    console.print(shown(f"(errors in units of noise, then the greatest absolute difference{scope})", "dim"))


COMPARED = ("A - oracle", "B - oracle", "A - B")


def _cell(gap: Gap | None) -> str:
    if gap is None:
        return "-"
    return "NaN/inf" if gap.non_finite else f"{units(gap.units)} {error(gap.max_abs)}"


def _word(line: Line, outcome: Outcome) -> str:
    beyond = failing(line, outcome)
    if not beyond:
        return YES
    if beyond == ["A-B"] and outcome.verdict == BY_CONVENTION:
        return CONVENTION
    return f"{NO} {' '.join(beyond)}"


def _show_worst(console: Console, outcome: Outcome) -> None:
    rows = [(gap, element) for gap in outcome.agreement for element in gap.worst[:1]]
    if not rows:
        return
    table = plain_table(
        "farthest element", "row", "position", "feature", "A", "B", right=("row", "position", "feature")
    )
    for gap, worst in rows:
        numbers = (
            str(worst.row),
            str(worst.position),
            str(worst.feature),
            f"{worst.value:.7g}",
            f"{worst.expected:.7g}",
        )
        table.add_row(*map(shown, (f"{gap.name} ({gap.batch})", *numbers)))
    console.print()
    console.print(table)


def _show_differences(console: Console, outcome: Outcome) -> None:
    """Print what differs before anything is computed: weights and token ids."""
    gate, tokens = outcome.weights, outcome.tokens
    if gate is not None and gate.differences:
        table = plain_table("tensor", "differs in", "how")
        for row in gate.differences[:MOST]:
            table.add_row(*map(shown, row))
        console.print()
        console.print(table)
        _rest(console, len(gate.differences))
    if tokens.differences:
        table = plain_table("sentence", "ids of A", "ids of B")
        for sentence, a, b in tokens.differences[:MOST]:
            table.add_row(shown(sentence), shown(_ids(a)), shown(_ids(b)))
        console.print()
        console.print(table)
        _rest(console, len(tokens.differences))


def _ids(ids: Iterable[int]) -> str:
    return " ".join(map(str, ids))


def _rest(console: Console, number: int) -> None:
    if number > MOST:
        console.print(shown(f"... and {number - MOST} more (--json lists them)"))


def _show_why(console: Console, outcome: Outcome) -> None:
    """Print which conventions explain how much, and which causes there is evidence for."""
    if outcome.shares:
        table = plain_table("convention", "A", "B", "changes by", "explains", right=("changes by", "explains"))
        for share in outcome.shares:
            cells = (share.convention, share.a, share.b, error(share.rms), percent(share.share))
            table.add_row(*map(shown, cells))
        console.print()
        console.print(table)
    if outcome.causes:
        table = plain_table("cause", "where", "evidence")
        for cause in outcome.causes:
            table.add_row(shown(cause.name, "bold"), shown(cause.where), shown(cause.evidence))
        console.print()
        console.print(table)


def _items(console: Console, name: str, sentences: Iterable[str]) -> None:
    for sentence in sentences:
        console.print(shown(f"{name}: {sentence}"))
