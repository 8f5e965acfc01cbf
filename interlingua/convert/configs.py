"""From a dialect's own configuration to the canonical one and back, checked against the weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from interlingua.errors import FormatError, MappingError
from interlingua.mappings.config import INTEGERS, NUMBERS, Config, ConfigTable, Json
from interlingua.mappings.dialect import Dialect, Table
from interlingua.mappings.match import Match


@dataclass(frozen=True, slots=True)
class Completed:
    """A canonical configuration, and a sentence for each value that no configuration stated."""

    config: Config
    notes: tuple[str, ...]


def table_of(native: Mapping[str, Json], dialect: Dialect, dialects: Collection[Dialect]) -> ConfigTable | None:
    """Return the table that a JSON object is written by: the dialect's own, else any that recognises it."""
    tables = [dialect.config, *(other.config for other in dialects if other is not dialect)]
    return next((table for table in tables if table.recognises(native)), None)


def parse(native: Mapping[str, Json], table: ConfigTable, name: str) -> dict[str, Json]:
    """Return the canonical values that a configuration states.

    Raises:
        FormatError: a value is of the wrong kind.
        MappingError: a value makes it another architecture than the tables describe.
    """
    for key, allowed in table.only.items():
        if native.get(key, allowed[0]) not in allowed:
            raise MappingError(
                f"{name} says {key} = {native[key]!r}, an architecture that is not converted here.",
                hint="--family overrides what it says of the family; --keep-names converts the container alone.",
            )
    values: dict[str, Json] = {}
    for canonical, keys in table.keys.items():
        stated = {key: native[key] for key in keys if native.get(key) is not None}
        if len(set(map(str, stated.values()))) > 1:
            raise MappingError(f"{name} gives {canonical} two values: {stated}.")
        for key, value in stated.items():
            values[canonical] = _checked(canonical, value, f"{name}: {key}", table)
    labels = native.get(table.labels) if table.labels else None
    if isinstance(labels, dict) and labels:
        values["labels"] = _labels(labels, name)
    return values


def _checked(canonical: str, value: Json, what: str, table: ConfigTable) -> Json:
    if canonical == "hidden_act":
        if not isinstance(value, str) or value not in table.activations:
            raise MappingError(f"{what} = {value!r} is an activation that is not known here.")
        return table.activations[value]
    if canonical == "tie_word_embeddings" and type(value) is not bool:
        raise FormatError(f"{what} = {value!r} is neither true nor false")
    if canonical in INTEGERS and (type(value) is not int or value < 0):
        raise FormatError(f"{what} = {value!r} is no whole number")
    if canonical in NUMBERS and (type(value) not in (int, float) or not 0 <= value < float("inf")):
        raise FormatError(f"{what} = {value!r} is no number")
    return value


def _labels(labels: Mapping[str, Json], name: str) -> tuple[str, ...]:
    try:
        numbered = {int(key): str(label) for key, label in labels.items()}
    except ValueError as error:
        raise FormatError(f"{name}: id2label has keys that are no numbers") from error
    if sorted(numbered) != list(range(len(numbered))):
        raise FormatError(f"{name}: id2label does not number its labels from 0 to {len(numbered) - 1}")
    return tuple(numbered[index] for index in range(len(numbered)))


def complete(
    values: Mapping[str, Json],
    fallback: Mapping[str, Json],
    match: Match,
    name: str,
    tokens: int | None,
) -> Completed:
    """Return the whole canonical configuration of a matched source.

    Args:
        values: what its configuration states, canonically.
        fallback: what an earlier conversion kept of another configuration of the same model.
        match: the tensors, whose shapes are the last word on sizes.
        name: the configuration's name in messages.
        tokens: lines of the vocabulary; None where there is none.

    Raises:
        FormatError: configuration, weights and vocabulary contradict each other.
        MappingError: a value is neither stated, nor told by the shapes, nor defaulted by the system's code.
    """
    sizes = {value: match.sizes[symbol] for symbol, value in match.table.family.sizes.items()}
    sizes["num_hidden_layers"] = match.layers
    _check_sizes(sizes, values, name, tokens)
    result: dict[str, Json] = {**fallback, **values, **sizes}
    notes = []
    inferred = [f"{key} {size}" for key, size in sizes.items() if key not in values and key not in fallback]
    if inferred:
        notes.append(f"Read off the shapes: {', '.join(inferred)}.")
    if "num_attention_heads" not in result:
        result["num_attention_heads"], note = _head_count(match.dialect, sizes["hidden_size"])
        notes.append(note)
    notes += _apply_defaults(result, match.dialect)
    notes += _name_labels(result, values, match.sizes.get("labels"), name)
    if result["num_attention_heads"] < 1 or result["hidden_size"] % result["num_attention_heads"]:
        raise FormatError(
            f"{name} says {result['num_attention_heads']} attention heads, which do not divide the hidden size "
            f"{result['hidden_size']} of the weights"
        )
    return Completed(Config(**result), tuple(notes))


def _apply_defaults(result: dict[str, Json], dialect: Dialect) -> list[str]:
    """Fill in what the system's own code takes where nothing is said; return a sentence on it."""
    if "attention_probs_dropout_prob" not in dialect.config.keys and "hidden_dropout_prob" in result:
        # A system with one dropout uses it in both places.
        result.setdefault("attention_probs_dropout_prob", result["hidden_dropout_prob"])
    defaults = dialect.config.defaults
    missing = [key for key in (*INTEGERS, *NUMBERS, "hidden_act") if key not in result]
    for key in missing:
        if key not in defaults:
            raise MappingError(f"Nothing tells the source's {key}.", hint="Pass its configuration with --config FILE.")
        result[key] = defaults[key]
    if not missing:
        return []
    stated = ", ".join(f"{key} {defaults[key]}" for key in missing)
    return [f"As {dialect.title}'s own code has it where nothing is said: {stated}."]


def _name_labels(result: dict[str, Json], values: Mapping[str, Json], rows: int | None, name: str) -> list[str]:
    """See that a classifier of ``rows`` rows has as many labels, named if they are not; return a sentence on it."""
    if rows is None or len(result.get("labels", ())) == rows:
        return []
    # A multiple choice has one row, however many labels its configuration happens to name.
    if "labels" in values and rows > 1:
        raise FormatError(
            f"{name} names {len(values['labels'])} labels, but the classifier has {rows} rows",
            hint="They belong to different models; pass the right configuration with --config FILE.",
        )
    result["labels"] = tuple(f"LABEL_{index}" for index in range(rows))
    return [f"Nothing names the {rows} labels: they are called LABEL_0 and so on."]


def _check_sizes(sizes: Mapping[str, int], values: Mapping[str, Json], name: str, tokens: int | None) -> None:
    for key, size in sizes.items():
        if values.get(key, size) != size:
            lines = f", the vocabulary has {tokens} lines" if key == "vocab_size" and tokens is not None else ""
            raise FormatError(
                f"{name} says {key} = {values[key]}, but the weights say {size}{lines}",
                hint="They belong to different models; pass the right configuration with --config FILE.",
            )
    rows = sizes["vocab_size"]
    if tokens is not None and tokens > rows:
        raise FormatError(
            f"the vocabulary has {tokens} lines, but the word embedding has {rows} rows "
            f"({name} says vocab_size = {values.get('vocab_size', 'nothing')})",
            hint="Its last tokens would have no embedding; pass the right vocabulary with --vocab FILE.",
        )


def _head_count(dialect: Dialect, hidden: int) -> tuple[int, str]:
    if hidden in dialect.head_counts:
        count = dialect.head_counts[hidden]
        return (
            count,
            f"num_attention_heads {count}: what {dialect.title}'s own configuration of hidden size {hidden} has.",
        )
    default = dialect.config.defaults.get("num_attention_heads")
    if default and hidden % default == 0:
        return default, f"num_attention_heads {default}: {dialect.title}'s own default, since nothing states it."
    raise MappingError(
        "Nothing tells the number of attention heads: no shape depends on it.",
        hint="Pass the source's configuration with --config FILE.",
    )


def spell(
    config: Config, dialect: Dialect, table: Table, heads: Collection[str], dtype: str, base: Mapping[str, Json]
) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Return the dialect's own configuration, and sentences on what it cannot say.

    Args:
        config: the canonical configuration.
        dialect: the dialect to spell it in.
        table: the table of the model's family there.
        heads: the model's heads.
        dtype: the weights' element type, where the configuration states it.
        base: a configuration of the same dialect to start from: what already says the same is kept as it
            stands, with every key that is none of ours.

    Raises:
        MappingError: the system has no word for the activation.
    """
    form = dialect.config
    native: dict[str, Json] = {**base} if base else {**form.constants}
    said = {**form.defaults, **parse(base, form, "the configuration kept as residue")} if base else {}
    for canonical, value in config.as_dict().items():
        if canonical in form.keys and said.get(canonical) != value:
            spelled = form.spell_activation(value) if canonical == "hidden_act" else value
            if spelled is None:
                raise MappingError(f"{dialect.title} has no activation {value}.")
            native |= dict.fromkeys(form.keys[canonical], spelled)
    architecture = table.architecture(heads)
    if architecture and not native.get("architectures"):
        native["architectures"] = [architecture]
    if base:
        native |= {key: dtype for key in form.dtype_keys if key in base}
        if form.labels and len(config.labels) > 1 and said.get("labels") != config.labels:
            native |= form.extras(config, heads)
    else:
        native |= {**form.extras(config, heads), **dict.fromkeys(form.dtype_keys[:1], dtype)}
    return native, _unsaid(config, dialect)


def _unsaid(config: Config, dialect: Dialect) -> tuple[str, ...]:
    keys = dialect.config.keys
    if config.attention_probs_dropout_prob != config.hidden_dropout_prob and "attention_probs_dropout_prob" not in keys:
        return (
            f"{dialect.title} knows one dropout: {config.hidden_dropout_prob} is written, and the attention's "
            f"{config.attention_probs_dropout_prob} is kept as residue.",
        )
    return ()
