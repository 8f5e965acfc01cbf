"""sentence-transformers: an encoder of Hugging Face transformers, and modules that make one vector of its outputs.

The encoder is the base model alone, its names without a prefix; what other modules compute (pooling, a dense layer,
normalising) stands in folders beside it. A folder with ``modules.json`` is read as one of transformers, which loads
it too; this dialect is for writing such a folder from another system's encoder.

Sources: UKPLab/sentence-transformers ``sentence_transformers/{SentenceTransformer,models/Transformer,
models/Pooling,models/Normalize}.py`` (3.4.1) and, since 6.0, ``base/modules/{module,transformer}.py``,
``sentence_transformer/modules/pooling.py`` and ``util/deprecated_import.py`` (6.2.0, which reads the names and keys of
the older versions; these do not read its own, so the older ones are written).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from interlingua.mappings.config import Json
from interlingua.mappings.dialect import Dialect, Facts, FolderForm, Table
from interlingua.mappings.huggingface import HF, kin_of
from interlingua.mappings.schema import ENCODER

FAMILIES = ("bert", "ernie", "albert", "roberta", "xlm-roberta", "electra", "distilbert")
"""Families that the newest transformers, on which the newest sentence-transformers stands, still has."""

POOLING = "1_Pooling"
"""Folder of the pooling module."""

MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
"""Ways of pooling, of which the mean is the class's own default."""


def table_of(theirs: Table) -> Table:
    """Return transformers' table of a family with the base model's tensors alone, under their bare names."""
    parts = {tensor.name: tensor.part for tensor in theirs.family.tensors}
    return replace(
        theirs,
        base="",
        rules=tuple(rule for rule in theirs.rules if parts[rule.canonical] in (ENCODER, "pooler")),
        architectures=tuple((name, heads) for name, heads in theirs.architectures if not heads),
        find_task=None,
    )


def module_files(facts: Facts) -> dict[str, Json]:
    """Return the list of modules and their configurations, for an encoder that nothing but pooling follows."""
    kinds = (("", "Transformer"), (POOLING, "Pooling"))
    return {
        "modules.json": [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (path, kind) in enumerate(kinds)
        ],
        "sentence_bert_config.json": {"max_seq_length": longest(facts), "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {}, "prompts": {}, "similarity_fn_name": "cosine"},
        f"{POOLING}/config.json": {
            "word_embedding_dimension": facts.config.hidden_size,
            **{f"pooling_mode_{mode}": mode == "mean_tokens" for mode in MODES},
            "include_prompt": True,
        },
    }


def longest(facts: Facts) -> int:
    """Return how many tokens a text may have: as many as is stated, if there are as many positions.

    RoBERTa's positions begin behind the padding row.
    """
    rows = facts.config.max_position_embeddings
    rows -= facts.config.pad_token_id + 1 if facts.family in ("roberta", "xlm-roberta") else 0
    return min(rows, facts.tokenizer.max_length or rows)


def form_of(theirs: FolderForm) -> FolderForm:
    """Return the form of transformers' folder with the modules beside the encoder."""

    def files(facts: Facts) -> Mapping[str, Json]:
        """Return what transformers' tokenizer needs, and the modules."""
        return {**theirs.files(facts), **module_files(facts)}

    return replace(
        theirs,
        files=files,
        kin=kin_of("sentence-transformers"),
        remarks={f"{POOLING}/config.json": "Nothing says how a sentence's tokens are pooled: their mean is taken."},
    )


SENTENCE_TRANSFORMERS = Dialect(
    name="sentence-transformers",
    title="sentence-transformers",
    containers=HF.containers,
    tables={family: table_of(HF.tables[family]) for family in FAMILIES},
    folder=form_of(HF.folder),
    family_folders={family: form_of(form) for family, form in HF.family_folders.items()},
)
