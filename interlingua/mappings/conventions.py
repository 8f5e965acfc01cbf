"""Forward conventions: how a system's own code computes from its weights, where that is not the canonical way.

Equal weights give equal outputs only where these agree; where they do not, a plan says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conventions:
    """How a system computes.

    Attributes:
        layer_norm: ``biased, inside`` is gamma (x - mean) / sqrt(variance + epsilon) + beta with the
            variance's divisor N; ``unbiased, outside`` is gamma (x - mean) / (deviation + epsilon) + beta
            with the divisor N - 1.
        layer_norm_eps: the epsilon that the code fixes whatever a configuration says; None where it is read.
        source: where that was read.
    """

    layer_norm: str
    layer_norm_eps: float | None
    source: str


CANONICAL = "biased, inside"


def differences(source: Conventions, target: Conventions, epsilon: float) -> tuple[str, ...]:
    """Say in sentences where two systems compute differently from the same weights.

    ``epsilon`` is the one of the model's configuration.
    """
    found = []
    if source.layer_norm != target.layer_norm:
        found.append(
            f"LayerNorm is computed {source.layer_norm} the root by the source's system and {target.layer_norm} the "
            "root by the target's: outputs of the same weights differ by up to some 3e-3 (measured at BERT-base size)."
        )
    elif (source.layer_norm_eps or epsilon) != (target.layer_norm_eps or epsilon):
        found.append(
            f"LayerNorm's epsilon is {source.layer_norm_eps or epsilon:g} in the source's system and "
            f"{target.layer_norm_eps or epsilon:g} in the target's."
        )
    return tuple(found)
