"""TencentPretrain, the successor of UER-py: the same names in the same files, and more configuration keys.

Sources: Tencent/TencentPretrain ``tencentpretrain/{embeddings,encoders,targets}/*.py``,
``tencentpretrain/layers/{transformer,layer_norm}.py``, ``tencentpretrain/utils/{act_fun,lora}.py``,
``tencentpretrain/opts.py``, ``models/{bert,albert}/*_config.json``; older names:
``scripts/convert_tencentpretrain_from_old_to_new.py``.

Nothing in the weights tells the two systems apart. A configuration with a key that only this one knows does;
without one, a file is taken for UER-py's, which reads it the same way. LoRA's tensors
(``encoder.transformer.0.self_attn.linear_layers.0.lora_A``) change what the layers compute, so that a file with them
is refused: ``utils/lora.py`` merges them into the weights before a model is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from interlingua.mappings import uer
from interlingua.mappings.config import ConfigTable, Json
from interlingua.mappings.dialect import Dialect, Table

EPSILON = "layernorm_eps"
"""The key of what the layers' LayerNorm adds to the deviation; the embeddings' and the masked LM's add 1e-6."""

DEFAULT_EPSILON = 1e-6
"""What ``opts.py`` has for it, and no configuration of ``models/`` changes."""

OWN_KEYS = frozenset(
    {
        EPSILON,
        "rotary_position_embedding",
        "alibi_position_embedding",
        "layer_number_scale",
        "local_kv_heads_num",
        "use_lora",
        "lora_pretrained_model_path",
        "lora_params",
    }
)
"""Keys that UER-py's options do not have."""


def unwrap(native: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a configuration without an epsilon that says no more than silence does."""
    return {key: value for key, value in native.items() if (key, value) != (EPSILON, DEFAULT_EPSILON)}


def wrap(values: Mapping[str, Json], original: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the configuration, silent of an epsilon that the code has anyway unless the original was not."""
    if EPSILON in original:
        return {EPSILON: original[EPSILON], **values}
    silence = uer.CONFIG.defaults["layer_norm_eps"]
    return {key: value for key, value in values.items() if (key, value) != (EPSILON, silence)}


def config_of(theirs: ConfigTable) -> ConfigTable:
    """Return UER-py's configuration of a family as this system has it."""
    return replace(
        theirs,
        keys={**theirs.keys, "layer_norm_eps": (EPSILON,)},
        own=OWN_KEYS,
        only={
            **theirs.only,
            "rotary_position_embedding": (False,),
            "alibi_position_embedding": (False,),
            "layer_number_scale": (False,),
        },
        unwrap=unwrap,
        wrap=wrap,
    )


def table_of(theirs: Table) -> Table:
    """Return UER-py's table of a family as this system has it."""
    conventions = replace(
        theirs.conventions,
        layer_norm_eps=None,
        silent_eps=DEFAULT_EPSILON,
        embeddings_eps=DEFAULT_EPSILON,
        head_eps={"masked_lm": DEFAULT_EPSILON},
        source="Tencent/TencentPretrain tencentpretrain/layers/{layer_norm,transformer}.py, embeddings/embedding.py",
    )
    return replace(theirs, config=config_of(theirs.config), conventions=conventions)


TENCENTPRETRAIN = Dialect(
    name="tencentpretrain",
    title="TencentPretrain",
    containers=uer.UER.containers,
    tables={family: table_of(table) for family, table in uer.UER.tables.items()},
    folder=uer.UER.folder,
)
