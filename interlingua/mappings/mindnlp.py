"""MindNLP: transformers' names and folders, with the weights in a MindSpore checkpoint.

Sources: mindspore-lab/mindnlp ``mindnlp/configs.py`` (0.2: ``mindspore.ckpt``; 0.4: ``mindspore_model.ckpt``),
``mindnlp/transformers/modeling_utils.py`` (0.2 to 0.4: names with ``gamma``, ``beta`` and ``embedding_table`` are
read too; safetensors are written with the format ``np``), ``mindnlp/models/{bert,roberta,nezha,albert}/*.py``
(0.1: MindSpore's own names of parameters, and ``layer_norm``).

The families are those of ``hf``; a file of MindNLP in transformers' own names and container is one of ``hf``.
"""

from __future__ import annotations

from dataclasses import replace

from interlingua.mappings.dialect import Dialect, Table
from interlingua.mappings.huggingface import HF, by_family, kin_of

PARAMETERS = ((".gamma", ".weight"), (".beta", ".bias"), (".embedding_table", ".weight"))
"""(MindSpore's name of a parameter, transformers'): what a file of 0.1 to 0.3 may have."""

OLDER = {"bert", "roberta", "xlm-roberta", "nezha", "albert", "ernie", "electra"}
"""Families whose normalisations transformers calls ``LayerNorm``, and MindNLP 0.1 called ``layer_norm``."""


def parameter(name: str) -> str:
    """Return a name with transformers' name of the parameter."""
    for theirs, ours in PARAMETERS:
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name


def renamed(name: str) -> str:
    """Return a name of any version as transformers has it, in a family that calls normalisations LayerNorm."""
    name = parameter(name)
    return name if name.startswith("lm_head.") else name.replace(".layer_norm.", ".LayerNorm.")


def with_older_names(table: Table) -> Table:
    """Return a table of transformers that reads older names of MindNLP, too."""
    return replace(
        table,
        tidy=renamed if table.family.name in OLDER else parameter,
        conventions=replace(
            table.conventions, source=f"mindnlp/transformers/models ({table.conventions.source} in MindSpore)"
        ),
    )


FOLDER = replace(
    HF.folder,
    weights={"mindspore-ckpt": "mindspore_model.ckpt", "safetensors": "model.safetensors"},
    shards={"safetensors": HF.folder.shards["safetensors"]},
    metadata={"safetensors": {"format": "np"}},
    kin=kin_of("mindnlp"),
)

MINDNLP = Dialect(
    name="mindnlp",
    title="MindNLP",
    containers=("mindspore-ckpt", "safetensors"),
    tables={family: with_older_names(table) for family, table in HF.tables.items()},
    folder=FOLDER,
    family_folders=by_family(FOLDER),
)
