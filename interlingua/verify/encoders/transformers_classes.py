"""transformers' classes by family, and what each computes: the same in PyTorch, TensorFlow and MindSpore (mindone).

Sources: huggingface/transformers ``src/transformers/models/{bert,ernie,albert,roberta,xlm_roberta,electra,distilbert}/
modeling_*.py`` and, up to 4.57, ``models/deprecated/nezha/modeling_nezha.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of transformers.

    Attributes:
        suffix: the end of its name, behind the family's.
        outputs: head -> the fields of its output that are its logits; several are stacked in the last axis.
        pooled: whether its encoder has a pooler.
    """

    suffix: str
    outputs: Mapping[str, tuple[str, ...]]
    pooled: bool = False

    @property
    def heads(self) -> frozenset[str]:
        """What it computes."""
        return frozenset(self.outputs) | ({"pooler"} if self.pooled else set())


LOGITS = ("logits",)
MASKED_LM = Kind("ForMaskedLM", {"masked_lm": LOGITS})
TOKENS = Kind("ForTokenClassification", {"token_classification": LOGITS})
SPAN = Kind("ForQuestionAnswering", {"span_qa": ("start_logits", "end_logits")})
SEQUENCE = Kind("ForSequenceClassification", {"sequence_classification": LOGITS})
CHOICE = Kind("ForMultipleChoice", {"multiple_choice": LOGITS})
POOLED_SEQUENCE = Kind(SEQUENCE.suffix, SEQUENCE.outputs, pooled=True)
POOLED_CHOICE = Kind(CHOICE.suffix, CHOICE.outputs, pooled=True)
BASE = Kind("Model", {})
POOLED_BASE = Kind("Model", {}, pooled=True)

_BERT = (
    Kind(
        "ForPreTraining",
        {"masked_lm": ("prediction_logits",), "next_sentence": ("seq_relationship_logits",)},
        pooled=True,
    ),
    MASKED_LM,
    Kind("ForNextSentencePrediction", {"next_sentence": LOGITS}, pooled=True),
    POOLED_SEQUENCE,
    POOLED_CHOICE,
    TOKENS,
    SPAN,
    POOLED_BASE,
    BASE,
)
_ROBERTA = (MASKED_LM, SEQUENCE, POOLED_CHOICE, TOKENS, SPAN, POOLED_BASE, BASE)
_ALBERT = (
    Kind("ForPreTraining", {"masked_lm": ("prediction_logits",), "sentence_order": ("sop_logits",)}, pooled=True),
    MASKED_LM,
    POOLED_SEQUENCE,
    POOLED_CHOICE,
    TOKENS,
    SPAN,
    POOLED_BASE,
    BASE,
)
_ELECTRA = (
    Kind("ForPreTraining", {"replaced_token_detection": LOGITS}),
    MASKED_LM,
    SEQUENCE,
    CHOICE,
    TOKENS,
    SPAN,
    BASE,
)
_DISTILBERT = (MASKED_LM, SEQUENCE, CHOICE, TOKENS, SPAN, BASE)


@dataclass(frozen=True, slots=True)
class Models:
    """A family's classes.

    Attributes:
        prefix: what their names begin with.
        kinds: the classes, the most demanding first.
        masked_lm: the module that hidden states enter on their way to masked-LM logits.
        modules: module -> head that it is of, besides those of every family; starts of parameters' names.
    """

    prefix: str
    kinds: tuple[Kind, ...]
    masked_lm: str
    modules: Mapping[str, str]


_OF_BERT = {"cls.predictions.": "masked_lm", "cls.seq_relationship.": "next_sentence"}
_OF_ROBERTA = {"lm_head.": "masked_lm"}

FAMILIES = {
    "bert": Models("Bert", _BERT, "cls.predictions", _OF_BERT),
    "ernie": Models("Ernie", _BERT, "cls.predictions", _OF_BERT),
    "nezha": Models("Nezha", _BERT, "cls.predictions", _OF_BERT),
    "albert": Models(
        "Albert", _ALBERT, "predictions", {"predictions.": "masked_lm", "sop_classifier.": "sentence_order"}
    ),
    "roberta": Models("Roberta", _ROBERTA, "lm_head", _OF_ROBERTA),
    "xlm-roberta": Models("XLMRoberta", _ROBERTA, "lm_head", _OF_ROBERTA),
    "electra": Models(
        "Electra",
        _ELECTRA,
        "generator_predictions",
        {"generator_": "masked_lm", "discriminator_predictions.": "replaced_token_detection"},
    ),
    "distilbert": Models("DistilBert", _DISTILBERT, "vocab_transform", {"vocab_": "masked_lm"}),
}


def choose(kinds: Sequence[Kind], heads: Iterable[str]) -> tuple[Kind, ...]:
    """Return as few classes as compute all of the heads, none with a head that the checkpoint does not have.

    A pooler that a class needs and the checkpoint lacks is let pass: nothing else computes the head.
    """
    wanted = set(heads)
    able = [kind for kind in kinds if set(kind.outputs) <= wanted and (kind.pooled <= ("pooler" in wanted))]
    able += [kind for kind in kinds if kind.outputs and set(kind.outputs) <= wanted and kind not in able]
    chosen: list[Kind] = []
    while wanted or not chosen:
        best = max(able, key=lambda kind: len(kind.heads & wanted))
        if chosen and not best.heads & wanted:
            break
        chosen.append(best if best.heads & wanted else BASE)
        wanted -= best.heads
    return tuple(chosen)


def lost_heads(models: Models, kind: Kind, missing: Iterable[str]) -> frozenset[str]:
    """Return the heads that a class computes with parameters that it did not find."""
    lost: set[str] = set()
    for name in missing:
        head = next((head for module, head in models.modules.items() if name.startswith(module)), None)
        if head is not None:
            lost.add(head)
        elif "pooler." in name:
            # Whatever else is computed from the pooled output is lost with it.
            lost |= kind.heads - {"masked_lm"}
        else:
            lost |= kind.heads - {"pooler"}
    return frozenset(lost)
