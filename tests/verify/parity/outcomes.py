"""Outcomes of parity checks as they come out, made up: what the tests of reports show, store and read."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from interlingua.verify.parity.outcome import (
    BY_CONVENTION,
    DIFFERENT,
    SAME,
    VERDICTS,
    Cause,
    Gap,
    Outcome,
    Share,
    Side,
    Thresholds,
    Tokens,
    WeightsGate,
    Worst,
)

LAYERS = 6
LENGTHS = (128, 64, 32, 2)
NAMES = ("embeddings", *(f"layer.{layer}" for layer in range(LAYERS)), "pooler", "masked_lm", "next_sentence")
HOSTILE = "</td></svg><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}\x1b[31m\u202e"
"""A name that a file from somewhere could hold."""


def gap(name: str, batch: str = "hard", factor: float = 1.0, noise: float = 4e-7, seed: int = 0) -> Gap:
    """Return an error of ``factor`` times the noise, which grows with the depth."""
    rng = random.Random(f"{batch}{name}{seed}")
    noise_rms = noise * (1 + NAMES.index(name) / 4)
    rms = factor * noise_rms * rng.uniform(0.6, 1.4)
    lengths = LENGTHS if batch == "hard" else (11, 17, 9)
    rows = tuple(tuple(rms * 4 * rng.uniform(0.3, 1) for _ in range(length)) for length in lengths)
    if name in ("pooler", "next_sentence"):
        rows = tuple(row[:1] for row in rows)
    if name == "masked_lm":
        rows = tuple(row[:8] for row in rows)
    peak = max(max(row) for row in rows)
    far = Worst(0, len(rows[0]) - 1, 17, 1.25 + peak, 1.25)
    near = Worst(1, 0, 3, -0.5, -0.5 + peak / 2)
    logits = name in ("masked_lm", "next_sentence")
    return Gap(
        batch,
        name,
        elements=226 * 384,
        max_abs=peak,
        max_rel=peak,
        rms=rms,
        scale=1.0,
        nmse=rms * rms,
        cosine=1 - rms * rms,
        top_k=1.0 if logits else None,
        noise_rms=noise_rms,
        noise_max=noise_rms * 5,
        by_position=rows,
        worst=(far, near),
    )


def gaps(factor: float = 1.0, seed: int = 0, names: tuple[str, ...] = NAMES) -> tuple[Gap, ...]:
    """Return the errors of both batches."""
    return tuple(gap(name, batch, factor, seed=seed) for batch in ("hard", "text") for name in names)


CONFIG = {"hidden_size": 384, "num_hidden_layers": LAYERS, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "labels": []}
HF = Side(
    "A",
    "models/all-MiniLM-L6-v2",
    "hf",
    "bert",
    "safetensors",
    ("pooler", "masked_lm", "next_sentence"),
    "6d1c" * 16,
    "transformers.BertForPreTraining",
    "5.23.0",
    True,
    "torch 2.13.0",
    "AMD EPYC 7B13",
    "float32",
    {"attention": "eager", "tf32": "off", "threads": "2"},
    CONFIG,
    {"layer_norm": "biased, inside", "layer_norm_eps": None, "mask": "the type's lowest value"},
    4.2,
    (),
    None,
    gaps(0.8),
)
UER = replace(
    HF,
    label="B",
    path="models/minilm-uer/pytorch_model.bin",
    dialect="uer",
    container="torch-zip",
    reference="own encoder",
    version="0.9.0",
    third_party=False,
    conventions={"layer_norm": "unbiased, outside", "layer_norm_eps": 1e-6, "mask": "-10000"},
    refused=(("uer", "the package uer is not installed"),),
    gaps=gaps(0.9, seed=1),
)
PADDLE = replace(
    UER,
    path="models/minilm-paddle",
    dialect="paddle",
    container="paddle",
    framework="paddle 3.3.1",
    conventions=HF.conventions,
    refused=(("paddlenlp", "No module named 'paddlenlp'"),),
)
BATCHES = {"hard": (4, 128), "text": (3, 17)}


def healthy() -> Outcome:
    """Return that of a faithful conversion."""
    return Outcome(
        verdict=SAME,
        reasons=(),
        a=HF,
        b=PADDLE,
        weights=WeightsGate(107),
        agreement=gaps(1.1, seed=2),
        tokens=Tokens(8),
        notes=("Both sides saw the same batches.",),
        batches=BATCHES,
        seed=20181011,
        command="parity-check models/all-MiniLM-L6-v2 models/minilm-paddle --report parity.html",
        seconds=11.4,
    )


def by_convention() -> Outcome:
    """Return that of a faithful conversion to a system that computes LayerNorm otherwise."""
    return replace(
        healthy(),
        verdict=BY_CONVENTION,
        reasons=("Outputs of the same weights differ, and conventions explain 99.8% of it.",),
        b=UER,
        agreement=gaps(900, seed=3),
        shares=(
            Share("LayerNorm formula", "biased, inside", "unbiased, outside", 3.1e-4, 0.983),
            Share("epsilon", "1e-12", "1e-06", 6.0e-6, 0.015),
        ),
        command="parity-check models/all-MiniLM-L6-v2 models/minilm-uer --report parity.html",
    )


def different() -> Outcome:
    """Return that of a conversion with one transposed matrix, wrong from layer 3 on, and another vocabulary."""
    late = NAMES.index("layer.3")
    wrong = tuple(gap(name, batch, 1.1 if NAMES.index(name) < late else 2.5e5, seed=4) for batch, name in _keys())
    return replace(
        healthy(),
        verdict=DIFFERENT,
        reasons=("Weights differ in 1 of 107 tensors.", "A and B disagree from layer.3 on."),
        weights=WeightsGate(
            107, differences=(("encoder.layer.3.attention.output.dense.weight", "values", "147072 of 147456"),)
        ),
        agreement=wrong,
        causes=(
            Cause(
                "untransposed", "encoder.layer.3.attention.output.dense.weight", "B's is A's transposed, bit by bit."
            ),
            Cause("vocabulary", "vocab.txt", "Lines 101 and 102 are exchanged."),
        ),
        tokens=Tokens(8, (("Snow fell on the harbour.", (101, 4586, 3062, 102), (102, 4586, 3062, 101)),)),
    )


def _keys() -> list[tuple[str, str]]:
    return [(batch, name) for batch in ("hard", "text") for name in NAMES]


def crashed() -> Outcome:
    """Return that of a check whose side B died."""
    why = "its process ended with signal SIGSEGV after 2.1 s; a framework crashed in it"
    dead = replace(PADDLE, reference="", version="", framework="", device="", failure=why, gaps=())
    return replace(healthy(), verdict=DIFFERENT, reasons=(f"B did not run: {why}.",), b=dead, agreement=())


def non_finite() -> Outcome:
    """Return that of a checkpoint that overflows in layer 2."""
    nan = float("nan")
    bad = tuple(
        replace(found, non_finite=384, rms=nan, max_abs=float("inf"), nmse=nan, cosine=nan, by_position=_holes(found))
        if NAMES.index(found.name) > 2
        else found
        for found in gaps(1.2, seed=5)
    )
    side = replace(PADDLE, gaps=bad, dtype="float16")
    return replace(healthy(), verdict=DIFFERENT, reasons=("B has NaN from layer.2 on.",), b=side, agreement=bad)


def _holes(found: Gap) -> tuple[tuple[float, ...], ...]:
    first, *rest = found.by_position
    return ((float("nan"), *first[1:-1], float("inf"))[: len(first)], *rest)


def hostile() -> Outcome:
    """Return one whose every text is a name that wants to be markup or to move a cursor."""
    side = replace(
        HF,
        path=HOSTILE,
        dialect=HOSTILE,
        family=HOSTILE,
        heads=(HOSTILE,),
        reference=HOSTILE,
        settings={HOSTILE: HOSTILE},
        config={HOSTILE: [HOSTILE]},
        conventions={HOSTILE: HOSTILE},
        refused=((HOSTILE, HOSTILE),),
        gaps=tuple(replace(found, name=HOSTILE, batch=HOSTILE) for found in HF.gaps[:2]),
    )
    return replace(
        different(),
        reasons=(HOSTILE,),
        a=side,
        b=replace(side, label="B", failure=HOSTILE, config={HOSTILE: 1}),
        agreement=side.gaps,
        weights=WeightsGate(1, narrowed=HOSTILE, differences=((HOSTILE, HOSTILE, HOSTILE),)),
        shares=(Share(HOSTILE, HOSTILE, HOSTILE, 1.0, 1.0),),
        causes=(Cause(HOSTILE, HOSTILE, HOSTILE),),
        tokens=Tokens(1, ((HOSTILE, (1,), (2,)),)),
        devices={HOSTILE: side.gaps},
        notes=(HOSTILE,),
        batches={HOSTILE: (1, 2)},
        command=HOSTILE,
    )


ALL = {
    "healthy": healthy,
    "by convention": by_convention,
    "different": different,
    "crashed": crashed,
    "non-finite": non_finite,
    "hostile": hostile,
}
"""Every kind, by name."""


# -- any outcome at all

WORDS = st.text(max_size=8)
NUMBERS = st.floats() | st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, float("nan"), float("-inf")])
COUNTS = st.integers(0, 10**6)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | WORDS, lambda inner: st.lists(inner, max_size=3))
ROWS = st.lists(st.lists(NUMBERS, max_size=3).map(tuple), max_size=3).map(tuple)


def listed(items: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[Any]:
    """Return tuples of some items."""
    return st.lists(items, max_size=most).map(tuple)


WORST = st.builds(Worst, COUNTS, COUNTS, COUNTS, NUMBERS, NUMBERS)
ANY_GAP = st.builds(
    Gap,
    WORDS,
    st.sampled_from(NAMES) | WORDS,
    COUNTS,
    *[NUMBERS] * 6,
    st.none() | NUMBERS,
    NUMBERS,
    NUMBERS,
    COUNTS,
    ROWS,
    listed(WORST),
)
ANY_SIDE = st.builds(
    Side,
    *[WORDS] * 5,
    listed(WORDS),
    st.none() | WORDS,
    third_party=st.booleans(),
    settings=st.dictionaries(WORDS, WORDS, max_size=2),
    config=st.dictionaries(WORDS, JSON, max_size=2),
    conventions=st.dictionaries(WORDS, JSON, max_size=2),
    seconds=NUMBERS,
    refused=listed(st.tuples(WORDS, WORDS)),
    failure=st.none() | WORDS,
    gaps=listed(ANY_GAP),
)
IDS = listed(st.integers(0, 30000))
GATES = st.builds(
    WeightsGate, compared=COUNTS, narrowed=st.none() | WORDS, differences=listed(st.tuples(WORDS, WORDS, WORDS))
)
CAUSES = listed(st.builds(Cause, WORDS, WORDS, WORDS))
ANY = st.builds(
    Outcome,
    verdict=st.sampled_from(VERDICTS),
    reasons=listed(WORDS),
    a=ANY_SIDE,
    b=ANY_SIDE,
    weights=st.none() | GATES,
    agreement=listed(ANY_GAP),
    shares=listed(st.builds(Share, WORDS, WORDS, WORDS, NUMBERS, NUMBERS)),
    faults=CAUSES,
    causes=CAUSES,
    tokens=st.builds(Tokens, COUNTS, listed(st.tuples(WORDS, IDS, IDS)), st.none() | WORDS),
    devices=st.dictionaries(WORDS, listed(ANY_GAP), max_size=1),
    notes=listed(WORDS),
    thresholds=st.builds(Thresholds, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    batches=st.dictionaries(WORDS, st.tuples(COUNTS, COUNTS), max_size=2),
    seed=st.integers(),
    command=WORDS,
    seconds=NUMBERS,
)
"""Outcomes with any content that the JSON form can hold."""
