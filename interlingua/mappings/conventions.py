"""Forward conventions: how a system's own code computes from its weights, where that is not the canonical way.

Equal weights give equal outputs only where these agree; where they do not, a plan says so, and by how much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

CANONICAL = "biased, inside"
UNBIASED = "unbiased, outside"

FROM_ZERO = "from 0"
BEHIND_PADDING = "behind the padding row"

STORED = "as it is stored"
ZERO = "zeros"

MODEL_ACT = "the model's"
"""A head's activation that is the configuration's ``hidden_act``, where the family's code fixes one."""


@dataclass(frozen=True, slots=True)
class Conventions:
    """How a system computes.

    Attributes:
        layer_norm: ``biased, inside`` is gamma (x - mean) / sqrt(variance + epsilon) + beta with the
            variance's divisor N; ``unbiased, outside`` is gamma (x - mean) / (deviation + epsilon) + beta
            with the divisor N - 1.
        layer_norm_eps: the epsilon that the code fixes whatever a configuration says; None where it is read.
        silent_eps: where it is read, what the code takes if nothing states it; None: what the table has as default.
        embeddings_eps: the epsilon of the embeddings' LayerNorm, where the code fixes one; None: that of the layers.
        source: where that was read.
        mask: what is added to attention scores of masked positions.
        positions: the row of the position embedding that the first token gets.
        pad_row: what the code takes for the padding token's embedding.
        head_eps: head -> the epsilon of its LayerNorm, where the code fixes another than that of the layers.
        head_act: head -> the activation of its dense layer (canonical, or ``MODEL_ACT``), where the code has another
            than the family. The family's are transformers': the model's for ``masked_lm`` and
            ``replaced_token_detection``, but gelu for ``masked_lm`` of RoBERTa and ELECTRA; for a classifier with a
            dense layer tanh in RoBERTa, gelu in ELECTRA, relu in DistilBERT.
    """

    layer_norm: str
    layer_norm_eps: float | None
    source: str
    mask: str = "the type's lowest value"
    positions: str = FROM_ZERO
    pad_row: str = STORED
    silent_eps: float | None = None
    embeddings_eps: float | None = None
    head_eps: Mapping[str, float] = field(default_factory=dict)
    head_act: Mapping[str, str] = field(default_factory=dict)


BY_EPSILON = 52.0
"""Largest difference of BERT-base's outputs for a difference of 1 in epsilon, by measuring 1e-7 to 1e-5."""

BY_ACTIVATION = {
    frozenset({"gelu", "gelu_tanh"}): 9.4e-4,
    frozenset({"gelu", "relu"}): 2.0,
    frozenset({"gelu_tanh", "relu"}): 2.0,
}
"""Largest difference of BERT-base's outputs when one activation is computed for another, measured."""


def computed_eps(conventions: Conventions, stated: float | None, default: float) -> float:
    """Return the epsilon that a system's layers compute with.

    Args:
        conventions: the system's.
        stated: what the model's configuration in that system says.
        default: what the system takes for granted where it says nothing (``silent_eps`` goes before it).
    """
    if conventions.layer_norm_eps is not None:
        return conventions.layer_norm_eps
    if stated is not None:
        return stated
    return default if conventions.silent_eps is None else conventions.silent_eps


def differences(source: Conventions, target: Conventions, ours: float, theirs: float) -> tuple[str, ...]:
    """Say in sentences where two systems compute differently from the same weights.

    Args:
        source: the source's system.
        target: the target's system.
        ours: the epsilon that the source's layers compute with.
        theirs: the epsilon that the target's layers will compute with.
    """
    found = []
    if source.layer_norm != target.layer_norm:
        found.append(
            f"LayerNorm is computed with {_variance(source)} in the source's system, and with {_variance(target)} in "
            "the target's: outputs of the same weights differ by up to some 3e-3 (measured at BERT-base size)."
        )
    elif ours != theirs:
        found.append(
            f"LayerNorm's epsilon is {ours:g} in the source's system and {theirs:g} in the target's: outputs of the "
            f"same weights differ by up to some {BY_EPSILON * abs(ours - theirs):.0e} (measured at BERT-base size)."
        )
    if source.positions != target.positions:
        found.append(
            f"Positions are counted {source.positions} by the source's system, {target.positions} by the target's."
        )
    if source.pad_row != target.pad_row:
        found.append(
            f"The padding token's embedding is taken {source.pad_row} by the source's system and {target.pad_row} by "
            "the target's: hidden states of padding differ, those of other tokens do not."
        )
    return tuple(found)


def _variance(conventions: Conventions) -> str:
    bias, _, place = conventions.layer_norm.partition(", ")
    return f"the {bias} variance and epsilon {place} the root"


def gamma_factor(source: Conventions, target: Conventions, width: int) -> float:
    """Return what LayerNorm's gamma must be multiplied by so that the target's formula gives the source's outputs.

    The unbiased deviation of ``width`` elements is the biased one times sqrt(width / (width - 1)); gamma takes
    that up exactly, but for its rounding. Where epsilon stands is left as it is.
    """
    if source.layer_norm == target.layer_norm or width < 2:
        return 1.0
    ratio = math.sqrt(width / (width - 1))
    return ratio if target.layer_norm == UNBIASED else 1 / ratio


FOLDED = (
    "LayerNorm's gammas are multiplied by {factor:.9g} (sqrt(H / (H - 1)), H elements), so that the target's formula "
    "gives the source's outputs; what remains is where epsilon stands: up to some 8e-6 (measured at BERT-base size). "
    "The gammas as they were are kept as residue, and come back on the way back."
)
"""What a plan says where gammas are changed to preserve outputs."""


def activation_difference(wanted: str, written: str) -> str:
    """Say in a sentence that a system computes another activation than the model's, and by how much that tells."""
    size = BY_ACTIVATION.get(frozenset({wanted, written}))
    much = f" by up to some {size:.0e} (measured at BERT-base size)" if size else ""
    return f"The model's activation is {wanted}, and the target's system computes {written}: outputs differ{much}."
