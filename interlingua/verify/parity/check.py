"""A parity check from beginning to end: weights, forward passes in the frameworks, and what they say together."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from interlingua.convert.source import Asked, open_checkpoint
from interlingua.errors import UsageError
from interlingua.mappings.config import Config
from interlingua.verify import fingerprint, text
from interlingua.verify.oracle import Arithmetic
from interlingua.verify.parity.activations import Saved, read_activations, save_activations
from interlingua.verify.parity.batch import ROWS, SEED, Batch, hard_batch, longest_row
from interlingua.verify.parity.comparison import Subject, against_oracle, agreement
from interlingua.verify.parity.diagnosis import diagnose
from interlingua.verify.parity.judgement import judge
from interlingua.verify.parity.outcome import Cause, Gap, Outcome, Side, Thresholds, Tokens, WeightsGate
from interlingua.verify.parity.runs import Runs, Settings, run_sides
from interlingua.verify.parity.shares import shares
from interlingua.verify.parity.side import Opened, expected, open_side
from interlingua.verify.parity.weights import compare_weights, severed, unmatched_heads
from interlingua.verify.text.tokenizer import NoTokenizerError


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a parity check; every field is an option of the command line.

    Attributes:
        a: what is known of A beforehand.
        b: likewise of B.
        settings: how sides are run.
        rows: rows of the hard batch.
        length: tokens of its longest row; None: as many as the models take, 512 at most.
        seed: its seed.
        sentences: text to run besides, where a vocabulary is there; empty: none.
        thresholds: what counts as noise.
        save: file that A's activations are kept in.
        command: the command that repeats the check.
    """

    a: Asked = field(default_factory=Asked)
    b: Asked = field(default_factory=Asked)
    settings: Settings = field(default_factory=Settings)
    rows: int = ROWS
    length: int | None = None
    seed: int = SEED
    sentences: tuple[str, ...] = text.SENTENCES
    thresholds: Thresholds = field(default_factory=Thresholds)
    save: Path | None = None
    command: str = ""


def check(a: str | os.PathLike[str], b: str | os.PathLike[str], options: Options) -> Outcome:
    """Run two checkpoints as their own systems would, and say whether they are the same model.

    Args:
        a: the original.
        b: what was made of it.
        options: what is asked.

    Raises:
        FormatError: a side cannot be read.
        MappingError: no dialect knows a side.
        UsageError: the options do not fit the models.
        OutputError: activations cannot be written.
    """
    _refuse_without_extra()
    started = time.monotonic()
    with ExitStack() as stack:
        ours = open_side(stack.enter_context(open_checkpoint(a, options.a)))
        theirs = open_side(stack.enter_context(open_checkpoint(b, options.b)))
        gate, notes = compare_weights(ours, theirs)
        tokens, text_notes = _tokens(ours, theirs, options)
        batches = make_batches((ours, theirs), options)
        runs = stack.enter_context(run_sides({"A": ours, "B": theirs}, batches, options.settings))
        subjects = runs.subjects(share=gate.identical and not severed(ours, theirs))
        gaps = against_oracle(subjects, batches, Arithmetic(options.settings.dtype))
        _save(ours, runs, batches, options)
        outcome = Outcome(
            verdict="",
            reasons=(),
            a=runs.describe("A", gaps.get("A", ())),
            b=runs.describe("B", gaps.get("B", ())),
            weights=gate,
            agreement=agreement(subjects[0], subjects[1], batches, gaps) if len(subjects) == 2 else (),
            shares=shares(ours, theirs.model, theirs),
            faults=(*configuration_faults(ours, theirs), *head_faults(ours, theirs), *runs.faults),
            tokens=tokens,
            devices=runs.devices(batches, gaps),
            notes=(*notes, *text_notes, *runs.notes),
            **_circumstances(batches, options),
        )
        judged = judge(outcome)
        found = diagnose(judged, {"A": ours, "B": theirs}, subjects, batches)
        return replace(judged, causes=found, seconds=time.monotonic() - started)


def check_against(a: str | os.PathLike[str], file: Path, options: Options) -> Outcome:
    """Run one checkpoint, and compare it with activations that were kept of another.

    Weights are compared by fingerprint; the kept activations are held against the oracle too, which computes
    them from A's weights under the conventions that the file names.

    Raises:
        FormatError: a side cannot be read.
        MappingError: no dialect knows A.
        UsageError: the file's batches do not fit A.
    """
    _refuse_without_extra()
    started = time.monotonic()
    saved = read_activations(file)
    with ExitStack() as stack:
        ours = open_side(stack.enter_context(open_checkpoint(a, options.a)))
        _refuse_unfit(ours, saved)
        runs = stack.enter_context(run_sides({"A": ours}, saved.batches, options.settings))
        subjects = runs.subjects(share=True)
        get = subjects[0].get if subjects else ours.tensor
        theirs = Subject("B", saved.activations, get, saved.model)
        gaps = _gaps_of_both(subjects, theirs, saved, options)
        outcome = Outcome(
            verdict="",
            reasons=(),
            a=runs.describe("A", gaps.get("A", ())),
            b=replace(saved.side, label="B", path=str(file), gaps=gaps["B"]),
            weights=_by_fingerprint(ours, saved.side),
            agreement=agreement(subjects[0], theirs, saved.batches, gaps) if subjects else (),
            shares=shares(ours, saved.model),
            faults=runs.faults,
            tokens=Tokens(problem="B is a file of activations, without a vocabulary."),
            notes=runs.notes,
            **_circumstances(saved.batches, options),
        )
        judged = judge(outcome)
        found = diagnose(judged, {"A": ours}, (*subjects, theirs), saved.batches)
        return replace(judged, causes=found, seconds=time.monotonic() - started)


def _gaps_of_both(
    ours: Sequence[Subject], theirs: Subject, saved: Saved, options: Options
) -> dict[str, tuple[Gap, ...]]:
    """Hold A and kept activations against the oracle, each with the noise of the element type that it was run in."""
    mine, kept = Arithmetic(options.settings.dtype), Arithmetic(saved.side.dtype)
    if mine == kept:
        return against_oracle((*ours, theirs), saved.batches, mine)
    return against_oracle(ours, saved.batches, mine) | against_oracle((theirs,), saved.batches, kept)


def check_one(a: str | os.PathLike[str], options: Options) -> Outcome:
    """Run one checkpoint and hold it against the oracle, which stands for the other side.

    Raises:
        FormatError: it cannot be read.
        MappingError: no dialect knows it.
        OutputError: activations cannot be written.
    """
    _refuse_without_extra()
    started = time.monotonic()
    with ExitStack() as stack:
        ours = open_side(stack.enter_context(open_checkpoint(a, options.a)))
        batches = make_batches((ours,), options)
        runs = stack.enter_context(run_sides({"A": ours}, batches, options.settings))
        subjects = runs.subjects(share=True)
        gaps = against_oracle(subjects, batches, Arithmetic(options.settings.dtype)).get("A", ())
        _save(ours, runs, batches, options)
        side = runs.describe("A", gaps)
        outcome = Outcome(
            verdict="",
            reasons=(),
            a=side,
            b=_oracle_side(side),
            weights=WeightsGate(len(ours.steps)),
            agreement=gaps,
            faults=runs.faults,
            tokens=Tokens(problem="There is one side."),
            devices=runs.devices(batches, {"A": gaps}),
            notes=runs.notes,
            **_circumstances(batches, options),
        )
        judged = judge(outcome)
        found = diagnose(judged, {"A": ours}, subjects, batches)
        return replace(judged, causes=found, seconds=time.monotonic() - started)


def _oracle_side(side: Side) -> Side:
    """Return the oracle as the other side of one that ran: it is nowhere from itself."""
    exact = tuple(
        replace(gap, max_abs=0.0, max_rel=0.0, rms=0.0, nmse=0.0, cosine=1.0, by_position=(), worst=())
        for gap in side.gaps
    )
    return replace(
        side,
        label="B",
        path="the oracle",
        reference="oracle",
        version="",
        third_party=False,
        framework="NumPy",
        device="cpu",
        dtype="float64",
        settings={},
        seconds=0.0,
        refused=(),
        failure=None,
        gaps=exact,
    )


def _circumstances(batches: Sequence[Batch], options: Options) -> dict[str, Any]:
    return {
        "thresholds": options.thresholds,
        "batches": {batch.name: (len(batch.input_ids), batch.input_ids.shape[1]) for batch in batches},
        "seed": options.seed,
        "command": options.command,
    }


def _save(side: Opened, runs: Runs, batches: Sequence[Batch], options: Options) -> None:
    """Keep A's activations, where they are asked for and there are any."""
    subjects = [subject for subject in runs.subjects(share=True) if subject.label == "A"]
    if options.save is None or not subjects:
        return
    digest = fingerprint.fingerprint(side.checkpoint).model
    described = replace(runs.describe("A", ()), fingerprint=digest)
    save_activations(options.save, Saved(described, side.model, tuple(batches), dict(subjects[0].activations)))


def _refuse_unfit(side: Opened, saved: Saved) -> None:
    for batch in saved.batches:
        longest = longest_row(side.config, side.table.conventions.positions)
        if batch.input_ids.shape[1] > longest or batch.input_ids.max() >= side.config.vocab_size:
            raise UsageError(
                f"The file's batch {batch.name!r} has longer rows or other tokens than this model can take.",
                hint="It was kept of another model.",
            )


def _by_fingerprint(side: Opened, kept: Side) -> WeightsGate:
    digest = fingerprint.fingerprint(side.checkpoint).model
    if digest == kept.fingerprint:
        return WeightsGate(len(side.steps))
    detail = f"{digest} and {kept.fingerprint}"
    return WeightsGate(len(side.steps), differences=(("the whole model", "fingerprint", detail),))


def _refuse_without_extra() -> None:
    if importlib.util.find_spec("scipy") is None:
        raise UsageError(
            "A parity check needs scipy, which is not installed.", hint="pip install 'interlingua[parity]'"
        )


def make_batches(sides: Sequence[Opened], options: Options) -> tuple[Batch, ...]:
    """Return the batches that all sides can take: the hard one, and text where A's vocabulary is there.

    Raises:
        UsageError: rows are asked for that are longer than a model's positions.
    """
    config = _common([side.config for side in sides])
    longest = min(longest_row(side.config, side.table.conventions.positions) for side in sides)
    if options.length is not None and options.length > longest:
        raise UsageError(f"--seq-len {options.length} is more than the {longest} positions that the models have.")
    hard = hard_batch(config, longest, rows=options.rows, length=options.length, seed=options.seed)
    try:
        real = text.text_batch(sides[0].checkpoint, options.sentences, longest) if options.sentences else None
    except NoTokenizerError:
        real = None
    return (hard,) if real is None or real.input_ids.max() >= config.vocab_size else (hard, real)


def _common(configs: Sequence[Config]) -> Config:
    """Return the first configuration with the sizes that all have."""
    return replace(
        configs[0],
        type_vocab_size=min(config.type_vocab_size or 1 for config in configs),
        task_type_vocab_size=min(config.task_type_vocab_size or 1 for config in configs),
        vocab_size=min(config.vocab_size for config in configs),
    )


def _tokens(a: Opened, b: Opened, options: Options) -> tuple[Tokens, tuple[str, ...]]:
    """Compare the vocabularies; return that, and sentences on it."""
    if not options.sentences:
        return Tokens(problem="No text was asked for."), ()
    tokens = text.compare_tokenizers(a.checkpoint, b.checkpoint, options.sentences)
    if tokens.problem is not None:
        return tokens, ()
    note = text.casing_note(a.checkpoint, b.checkpoint)
    return tokens, (note,) if note else ()


CAUSES = {"layer_norm_eps": "epsilon", "hidden_act": "activation"}
"""Configuration value -> what a fault in it is called; any other is a fault of the configuration."""


def configuration_faults(a: Opened, b: Opened) -> tuple[Cause, ...]:
    """Return where B's configuration says something else than that of a conversion of A would."""
    wanted, found = expected(a, b), b.config.as_dict()
    return tuple(
        Cause(
            CAUSES.get(key, "configuration"),
            f"B's configuration, {key}",
            f"{found.get(key)} where {wanted[key]} would say what A says.",
        )
        for key in wanted
        if wanted[key] != found.get(key)
    )


def head_faults(a: Opened, b: Opened) -> tuple[Cause, ...]:
    """Return heads that are missing on one side though its system could have them."""
    return tuple(
        Cause(f"missing {head}", f"side {label}", f"has no {head}, and the other side has one.")
        for head, label in unmatched_heads(a, b).items()
    )
