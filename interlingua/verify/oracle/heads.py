"""What each head of each family computes of the last layer's output: the oracle's second half."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interlingua.verify.oracle.arithmetic import FLOAT64, Arithmetic, activate
from interlingua.verify.oracle.model import Get, Model, dense, norm
from interlingua.verify.parity.batch import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_ROBERTA = {"masked_lm": "gelu", "sequence_classification": "tanh"}

HEAD_ACTIVATIONS: dict[str, dict[str, str]] = {
    # transformers models/roberta/modeling_roberta.py: RobertaLMHead, RobertaClassificationHead.
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    # transformers models/electra/modeling_electra.py: ElectraGeneratorPredictions, ElectraClassificationHead,
    # ElectraSequenceSummary (summary_activation of its configuration).
    "electra": {"masked_lm": "gelu", "sequence_classification": "gelu", "multiple_choice": "gelu"},
    # transformers models/distilbert/modeling_distilbert.py: DistilBertForSequenceClassification, ...MultipleChoice.
    "distilbert": {"sequence_classification": "relu", "multiple_choice": "relu"},
}
"""Family -> head -> its activation, where that is not the model's ``hidden_act`` (and tanh for a pooler)."""

PER_TOKEN = frozenset({"token_classification", "span_qa", "replaced_token_detection"})
"""Heads that say something of every token."""

_DENSE_FIRST = frozenset(
    {
        ("roberta", "sequence_classification"),
        ("xlm-roberta", "sequence_classification"),
        ("electra", "sequence_classification"),
        ("electra", "multiple_choice"),
        ("distilbert", "sequence_classification"),
        ("distilbert", "multiple_choice"),
    }
)
"""Heads that have a dense layer of their own where others are computed from the pooler."""


def head_outputs(get: Get, model: Model, x: Array, batch: Batch, arithmetic: Arithmetic = FLOAT64) -> dict[str, Array]:
    """Return the outputs of the model's heads of the last layer's output, in the model's order.

    ``pooler`` [rows, hidden]; ``masked_lm`` [rows * predicted, vocab], logits at ``batch.predict`` alone; heads of
    ``PER_TOKEN`` [tokens, n]; all others [rows, n].
    """
    first = x[_starts(batch)]
    is_pooled = any(needs_pooler(model.family, head) for head in model.heads)
    pooled = pooler(get, model, first, arithmetic) if is_pooled else first
    found = {}
    for head in model.heads:
        if head == "pooler":
            found[head] = pooled
        elif head == "masked_lm":
            found[head] = masked_lm(get, model, x[_predicted(batch)], arithmetic)
        elif head == "replaced_token_detection":
            found[head] = _dense_linear(get, model, head, x, arithmetic)
        elif head in PER_TOKEN:
            found[head] = dense(get, head, x, arithmetic)
        elif (model.family, head) in _DENSE_FIRST:
            found[head] = _dense_linear(get, model, head, first, arithmetic)
        else:
            found[head] = dense(get, head, pooled, arithmetic)
    return found


def pooler(get: Get, model: Model, first: Array, arithmetic: Arithmetic = FLOAT64) -> Array:
    """Return tanh(W h + b) of each row's first token, [rows, hidden] (google-research/bert ``modeling.py``)."""
    return activate(dense(get, "pooler.dense", first, arithmetic), head_activation(model, "pooler"), arithmetic)


def masked_lm(get: Get, model: Model, x: Array, arithmetic: Arithmetic = FLOAT64) -> Array:
    """Return the logits of a vocabulary, [tokens, vocab], of [tokens, hidden].

    LayerNorm(act(W x + b)) E^T + c, E being the word embedding unless a model unties it (google-research/bert
    ``run_pretraining.py``, get_masked_lm_output). ALBERT's and ELECTRA's W leads back to the embedding's width.
    """
    activation, epsilon = head_activation(model, "masked_lm"), model.head_eps.get("masked_lm", model.layer_norm_eps)
    hidden = activate(dense(get, "masked_lm.transform.dense", x, arithmetic), activation, arithmetic)
    normed = norm(get, model, "masked_lm.transform.LayerNorm", hidden, epsilon, arithmetic)
    return dense(get, "masked_lm.decoder", normed, arithmetic)


def head_activation(model: Model, head: str) -> str:
    """Return a head's activation: the system's, else the family's, else tanh for a pooler and ``hidden_act``."""
    usual = "tanh" if head == "pooler" else model.hidden_act
    return model.head_act.get(head, HEAD_ACTIVATIONS.get(model.family, {}).get(head, usual))


def needs_pooler(family: str, head: str) -> bool:
    """Say whether a head is computed from the pooler's output, or is the pooler."""
    return head != "masked_lm" and head not in PER_TOKEN and (family, head) not in _DENSE_FIRST


def _dense_linear(get: Get, model: Model, head: str, x: Array, arithmetic: Arithmetic) -> Array:
    """Return W_2 act(W_1 x + b_1) + b_2."""
    hidden = dense(get, f"{head}.dense", x, arithmetic)
    return dense(get, f"{head}.output", activate(hidden, head_activation(model, head), arithmetic), arithmetic)


def _starts(batch: Batch) -> Array:
    """Return where each row's first token stands among the real tokens, [rows]."""
    import numpy as np

    return np.concatenate([[0], np.cumsum(batch.lengths)[:-1]]).astype(np.int64)


def _predicted(batch: Batch) -> Array:
    """Return where the predicted tokens stand among the real tokens, [rows * predicted]."""
    found: Array = (_starts(batch)[:, None] + batch.predict).reshape(-1)
    return found
