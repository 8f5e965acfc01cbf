"""What a parity check found, as values: they can be stored as JSON, judged again, and shown in a terminal or a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from interlingua.convert.json_forms import DRAFT
from interlingua.errors import FormatError, printable
from interlingua.verify.parity.typed_json import from_json, json_schema, to_json

SCHEMA = 1
"""Version of the JSON form: raised when a reader of the last one would go wrong."""

SAME = "same model, same outputs"
BY_CONVENTION = "same model, outputs differ by convention"
DIFFERENT = "different"
VERDICTS = (SAME, BY_CONVENTION, DIFFERENT)
"""Verdicts, the best one first."""


@dataclass(frozen=True, slots=True)
class Worst:
    """One element that is far off: its row and position in the batch, its feature, and both values."""

    row: int
    position: int
    feature: int
    value: float
    expected: float


@dataclass(frozen=True, slots=True)
class Gap:
    """How far one activation is from another, over all real tokens, accumulated in float64.

    Attributes:
        batch: ``hard`` or ``text``.
        name: ``embeddings``, ``layer.{layer}``, ``pooler`` or a head.
        elements: numbers compared.
        max_abs: greatest absolute difference.
        max_rel: greatest absolute difference over the root mean square of the expected values.
        rms: root mean square of the differences.
        scale: root mean square of the expected values.
        nmse: squared differences over squared expected values, both summed.
        cosine: cosine of the angle between the two, taken as vectors.
        top_k: share of rows of logits whose five (or fewer) largest entries are the same; None for hidden states.
        noise_rms: root mean square of the error that the element type explains; 0 where nothing may differ.
        noise_max: greatest such error.
        non_finite: NaNs and infinities on either side.
        by_position: greatest absolute difference at each [row][position]; rows of real tokens only.
        worst: the elements that are farthest off, the farthest first.
        vectors: vectors that were compared: tokens, or rows of what a row has one of.
    """

    batch: str
    name: str
    elements: int
    max_abs: float
    max_rel: float
    rms: float
    scale: float
    nmse: float
    cosine: float
    top_k: float | None
    noise_rms: float
    noise_max: float
    non_finite: int = 0
    by_position: tuple[tuple[float, ...], ...] = ()
    worst: tuple[Worst, ...] = ()
    vectors: int = 0

    @property
    def units(self) -> float:
        """The error in units of noise: root mean squares of both."""
        return self.rms / self.noise_rms if self.noise_rms else (0.0 if self.rms == 0 else float("inf"))


FEW = 32
"""Vectors below which an error's size says little: that of a handful may be three times the usual by chance."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as noise; twice as much for an activation of few vectors, such as a pooler's.

    Attributes:
        rms: units of noise that the root mean square of an error may have.
        peak: units of noise that its greatest element may have.
        atol: absolute difference that is let pass besides; 0: none.
        rtol: likewise, of the expected values' root mean square.
    """

    rms: float = 3.0
    peak: float = 6.0
    atol: float = 0.0
    rtol: float = 0.0

    def allows(self, gap: Gap) -> bool:
        """Say whether an error is explained by noise."""
        if gap.non_finite or not gap.elements:
            return False
        return gap.rms <= self.rms_limit(gap) and gap.max_abs <= self.peak_limit(gap)

    def rms_limit(self, gap: Gap) -> float:
        """Return the greatest root mean square that passes."""
        return self._wide(gap) * self.rms * gap.noise_rms + self._slack(gap)

    def peak_limit(self, gap: Gap) -> float:
        """Return the greatest element that passes."""
        return self._wide(gap) * self.peak * gap.noise_max + self._slack(gap)

    def _wide(self, gap: Gap) -> float:
        return 2.0 if gap.vectors < FEW else 1.0

    def _slack(self, gap: Gap) -> float:
        return self.atol + self.rtol * gap.scale


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a parity check.

    Attributes:
        label: ``A`` or ``B``.
        path: the checkpoint, or the file of activations.
        dialect: its dialect.
        family: its family.
        container: its container.
        heads: its heads.
        fingerprint: digest of the whole model; None where it was not computed.
        reference: what ran: a package's class, or ``own encoder``.
        version: the reference's version.
        third_party: whether somebody else wrote the reference.
        framework: framework and version.
        device: the device's name.
        dtype: element type of the run.
        settings: what else decides numbers (attention kernel, TF32, threads).
        config: the configuration as the side's own system computes it.
        conventions: the system's forward conventions.
        seconds: what its process took.
        refused: references that could not run, and why.
        failure: why it did not run to its end; None where it did.
        gaps: its distance to the oracle under its own conventions.
    """

    label: str
    path: str
    dialect: str
    family: str
    container: str
    heads: tuple[str, ...]
    fingerprint: str | None
    reference: str = ""
    version: str = ""
    third_party: bool = False
    framework: str = ""
    device: str = ""
    dtype: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    conventions: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    refused: tuple[tuple[str, str], ...] = ()
    failure: str | None = None
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightsGate:
    """The comparison of canonical tensors, bit by bit.

    Attributes:
        compared: tensors in both.
        narrowed: element type that one side was narrowed to, every value being what rounding gives; None: none was.
        folded: LayerNorm gammas that a conversion multiplied so that outputs stay what they were.
        differences: (canonical name, what, detail) of each that differs.
    """

    compared: int
    narrowed: str | None = None
    folded: int = 0
    differences: tuple[tuple[str, str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something was compared and nothing differs."""
        return self.compared > 0 and not self.differences

    @property
    def identical(self) -> bool:
        """Whether both sides hold the same numbers, so that one side's can stand for the other's."""
        return self.ok and self.narrowed is None and not self.folded


@dataclass(frozen=True, slots=True)
class Share:
    """A convention in which the two systems differ, and what it explains.

    Attributes:
        convention: its name: ``LayerNorm formula``, ``epsilon``, ``activation``, ``element type`` ...
        a: what A's system does.
        b: what B's does.
        rms: root mean square of the change that switching it makes in the last hidden state (oracle), after those
            that are listed before it.
        share: its part of the difference between the two sides' oracles; all shares sum to 1.
    """

    convention: str
    a: str
    b: str
    rms: float
    share: float


@dataclass(frozen=True, slots=True)
class Cause:
    """Why two sides are different, as far as the evidence goes.

    Attributes:
        name: a short name that does not change: ``epsilon``, ``activation``, ``untransposed``, ``swapped tensors`` ...
        where: the tensor, layer, configuration key or side.
        evidence: a sentence with the numbers that show it.
    """

    name: str
    where: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """Whether both vocabularies give the same ids.

    Attributes:
        compared: sentences that both tokenised.
        differences: (sentence, ids of A, ids of B) of those that differ.
        problem: why nothing was compared; None where it was.
    """

    compared: int = 0
    differences: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a parity check found.

    Attributes:
        verdict: ``SAME``, ``BY_CONVENTION`` or ``DIFFERENT``.
        reasons: sentences on why the verdict is not the best one; empty where it is.
        a: one side.
        b: the other.
        weights: the comparison of weights; None where a side is a file of activations.
        agreement: the distance of A's activations to B's.
        devices: a side's distance to itself on another device: label -> gaps.
        shares: conventions in which the systems differ.
        faults: findings that no threshold decides: a configuration that says something else than a conversion of
            A would, a head that is missing.
        causes: why they are different, by diagnosis.
        tokens: tokenizer parity.
        notes: further sentences.
        thresholds: what counted as noise.
        batches: batch -> (rows, length).
        seed: the seed of the hard batch.
        command: the command that repeats it.
        seconds: what all of it took.
    """

    verdict: str
    reasons: tuple[str, ...]
    a: Side
    b: Side
    weights: WeightsGate | None
    agreement: tuple[Gap, ...]
    shares: tuple[Share, ...] = ()
    faults: tuple[Cause, ...] = ()
    causes: tuple[Cause, ...] = ()
    tokens: Tokens = field(default_factory=Tokens)
    devices: Mapping[str, tuple[Gap, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    batches: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    seed: int = 0
    command: str = ""
    seconds: float = 0.0

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 0 for the same model, 1 for a different one; with ``strict``, 1 where outputs differ at all."""
        return 0 if self.verdict == SAME or (self.verdict == BY_CONVENTION and not strict) else 1

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON, with ``schema``; numbers that JSON has no word for become their names."""
        found: dict[str, Any] = to_json({"schema": SCHEMA, **asdict(self)})
        return found


def outcome_from_dict(value: object) -> Outcome:
    """Return the outcome that ``Outcome.as_dict`` wrote, out of a JSON text that nobody vouches for.

    Args:
        value: what ``interlingua.formats.json_text.decode_json`` made of the text.

    Raises:
        FormatError: it is of another version, lacks a key, has one that is not known, or a value of another type.
    """
    if not isinstance(value, dict) or "schema" not in value:
        raise FormatError("schema: missing", hint="Pass a file that `parity-check --json` wrote.")
    version = value["schema"]
    if version != SCHEMA or isinstance(version, bool):
        shown = printable(str(version), 20) if isinstance(version, int | float | str) else "something else"
        raise FormatError(f"schema: it is {shown}, and {SCHEMA} is read here", hint="Run the check again.")
    found: Outcome = from_json(Outcome, {key: item for key, item in value.items() if key != "schema"})
    if found.verdict not in VERDICTS:
        raise FormatError(f"verdict: {printable(found.verdict, 60)!r} is none of {', '.join(map(repr, VERDICTS))}")
    return found


def outcome_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``Outcome.as_dict``."""
    found = json_schema(Outcome)
    outcome = found["$defs"].pop("Outcome")
    outcome["properties"]["verdict"]["enum"] = list(VERDICTS)
    version = {"description": "Version of this form.", "const": SCHEMA}
    return {
        "$schema": DRAFT,
        "title": "Outcome of a parity check",
        **outcome,
        "properties": {"schema": version, **outcome["properties"]},
        "required": ["schema", *outcome["required"]],
        "$defs": found["$defs"],
    }
