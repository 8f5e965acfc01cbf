"""Hugging Face transformers' Keras classes (4.x): ``config.json`` beside ``tf_model.h5``, or TensorFlow's safetensors.

The names follow from those of the PyTorch classes by one rule, which this module applies to their tables; the
configuration is the same. A linear layer's kernel is ``[in, out]``. In one HDF5 file a name is the layer of the
model, the class in snake case, and the variable's path, which begins with the layer again; shards and safetensors
have the path alone. A layer that computes with the word embedding lists all of the embeddings once more. The
decoder of a masked LM is always the word embedding.

Sources: huggingface/transformers 4.57.1 ``src/transformers/modeling_tf_pytorch_utils.py``
(``convert_tf_weight_name_to_pt_weight_name``), ``modeling_tf_utils.py`` (``save_pretrained``,
``load_tf_weights``, ``tf_shard_checkpoint``), ``models/{bert,albert,roberta,xlm_roberta,electra,distilbert}/
modeling_tf_*.py``; names of classes: keras-team/tf-keras ``tf_keras/src/utils/generic_utils.py`` (``to_snake_case``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from interlingua.mappings.config import Json
from interlingua.mappings.dialect import BASE, MODEL, Dialect, FolderForm, Table, TaskFinder
from interlingua.mappings.huggingface import HF, by_family, kin_of
from interlingua.mappings.rules import Rule, Shape, Transpose

FAMILIES = ("bert", "albert", "roberta", "xlm-roberta", "electra", "distilbert")
"""The families that have Keras classes."""

HEAD_LAYERS = {"cls.predictions": "mlm___cls", "cls.seq_relationship": "nsp___cls"}
"""Start of a PyTorch name -> the layer that Keras has for it, where that is not the name's own first part."""

SUFFIX = ":0"
"""TensorFlow's mark of an operation's first result, at the end of every variable's name."""

DECODER_BIAS = "masked_lm.decoder.bias"
"""The variable whose layer computes with the word embedding."""


def snake_case(name: str) -> str:
    """Return what Keras calls a model of a class: ``TFBertModel`` is ``tf_bert_model``."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def tidy(name: str) -> str:
    """Return a variable's path, without layer and class before it: as in shards, whose names have neither."""
    return re.sub(rf"^[^/]+/(?:{re.escape(MODEL)}|tf[a-z0-9_]*)/", "", name).removesuffix(SUFFIX)


def name_in_file(name: str, container: str, sharded: bool) -> str:
    """Return a variable's name: with layer and class only where one HDF5 file holds the model."""
    return name if container == "keras-hdf5" and not sharded else tidy(name) + SUFFIX


def leaf(canonical: str) -> tuple[str, Transpose | None]:
    """Return what Keras calls a layer's parameter, and the operation that makes it of the canonical one."""
    layer, _, part = canonical.rpartition(".")
    if layer.endswith("LayerNorm"):
        return {"weight": "gamma", "bias": "beta"}[part], None
    if layer.endswith("word_embeddings"):
        return "weight", None
    if layer.endswith("_embeddings"):
        return "embeddings", None
    return ("kernel", Transpose()) if part == "weight" else ("bias", None)


def layer_and_path(native: str, canonical: str, base: str) -> tuple[str, str]:
    """Return the layer of the model that a PyTorch name is in, and the variable's path there."""
    spelled = native.replace(BASE, base)
    start = next((start for start in HEAD_LAYERS if spelled.startswith(start)), None)
    if start is not None:
        spelled = HEAD_LAYERS[start] + spelled.removeprefix("cls")
    path = f"{spelled.rpartition('.')[0]}.{leaf(canonical)[0]}".replace(".", "/")
    # An entry of a list: layer/0 is layer_._0.
    path = re.sub(r"/(\{layer\}|\d+)(?=/)", r"_._\1", path)
    return path.split("/")[0], path + SUFFIX


def rules_of(torch: Table) -> tuple[Rule, ...]:
    """Return the rules of the Keras classes of a family from those of its PyTorch classes."""
    bias = next(rule for rule in torch.rules if rule.canonical == DECODER_BIAS)
    lm_layer = layer_and_path(bias.native, DECODER_BIAS, torch.base)[0]
    found = []
    for rule in torch.rules:
        if rule.canonical == "masked_lm.decoder.weight":
            continue
        layer, path = layer_and_path(rule.native, rule.canonical, torch.base)
        ours = Rule(rule.canonical, f"{layer}/{MODEL}/{path}", leaf(rule.canonical)[1], head=rule.head)
        found.append(ours)
        if rule.canonical.startswith("embeddings."):
            again = f"{lm_layer}/{MODEL}/{path}"
            found.append(replace(ours, copies=(again,), always=True, head="masked_lm"))
    return tuple(found)


def task_finder(torch: TaskFinder) -> TaskFinder:
    """Return what decides between tasks as the PyTorch table does, from the names that it knows."""

    def find_task(names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
        """Say which head ``classifier`` is."""
        known = {re.sub("kernel$", "weight", tidy(name)).replace("/", "."): shape for name, shape in names.items()}
        return torch(known, config)

    return find_task


def table_of(torch: Table) -> Table:
    """Return the table of a family's Keras classes from that of its PyTorch classes."""
    return replace(
        torch,
        rules=rules_of(torch),
        conventions=replace(
            torch.conventions,
            source=torch.conventions.source.split(" (")[0].replace("modeling_", "modeling_tf_"),
            mask="-10000",
        ),
        base=torch.base.replace(".", "/"),
        bare=torch.base.replace(".", "/"),
        bases=tuple(base.replace(".", "/") for base in torch.bases),
        scopes=tuple(scope.replace(".", "/") for scope in torch.scopes),
        tidy=tidy,
        renames=(),
        buffers=frozenset(),
        slots=("optimizer_weights/*",),
        models={name: snake_case(f"TF{name}") for name, _ in torch.architectures},
        find_task=task_finder(torch.find_task) if torch.find_task else None,
    )


def decoder_bias_first(table: Table) -> Table:
    """Return ALBERT's table: its head has two biases, and computes with the decoder's (``TFAlbertMLMHead``)."""
    bias = f"predictions/{MODEL}/predictions/bias{SUFFIX}"
    copy = f"predictions/{MODEL}/predictions/decoder/bias{SUFFIX}"
    rules = (replace(rule, copies=(copy,), always=True) if rule.native == bias else rule for rule in table.rules)
    return replace(table, rules=tuple(rules))


def layer_names(names: Sequence[str]) -> Mapping[str, str]:
    """Return the list of layers of a shard, each of which is a variable; one file finds its layers itself."""
    return {"layer_names": json.dumps(names)} if names and tidy(names[0]) + SUFFIX == names[0] else {}


TABLES = {name: table_of(HF.tables[name]) for name in FAMILIES}

FOLDER = FolderForm(
    weights={"keras-hdf5": "tf_model.h5", "safetensors": "model.safetensors"},
    shards={
        "keras-hdf5": ("tf_model-{shard}.h5", "tf_model.h5.index.json"),
        "safetensors": ("model-{shard}.safetensors", "model.safetensors.index.json"),
    },
    config=HF.folder.config,
    vocabulary=HF.folder.vocabulary,
    vocabularies=HF.folder.vocabularies,
    sidecars=HF.folder.sidecars,
    metadata={"safetensors": {"format": "tf"}, "keras-hdf5": layer_names},
    name_in_file=name_in_file,
    files=HF.folder.files,
    settings=HF.folder.settings,
    kin=kin_of("hf-tf"),
)

HF_TF = Dialect(
    name="hf-tf",
    title="Hugging Face transformers' Keras classes",
    containers=("keras-hdf5", "safetensors"),
    tables={**TABLES, "albert": decoder_bias_first(TABLES["albert"])},
    folder=FOLDER,
    family_folders=by_family(FOLDER),
)
