"""From a dialect's own configuration to the canonical one and back, checked against the weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from interlingua.errors import FormatError, MappingError
from interlingua.mappings.config import FLAGS, INTEGERS, NUMBERS, REQUIRED, SOME, Config, ConfigTable, Json
from interlingua.mappings.conventions import activation_difference
from interlingua.mappings.dialect import Dialect, Table
from interlingua.mappings.match import HEADS, Match


@dataclass(frozen=True, slots=True)
class Completed:
    """A canonical configuration, and a sentence for each value that no configuration stated."""

    config: Config
    notes: tuple[str, ...]


def table_of(native: Mapping[str, Json], match: Match, dialects: Collection[Dialect]) -> ConfigTable | None:
    """Return the table that a configuration is written by: the model's own, else any that recognises it.

    Of those that do, one that it names its family of goes first, then one of the model's family.
    """
    own = [match.table, *(table for table in match.dialect.tables.values() if table is not match.table)]
    others = [table for other in dialects if other is not match.dialect for table in other.tables.values()]
    others.sort(key=lambda table: table.family.name != match.table.family.name)
    found = [table.config for table in (*own, *others) if table.config.recognises(native)]
    return next((table for table in found if table.claims(native)), next(iter(found), None))


def parse(native: Mapping[str, Json], table: ConfigTable, name: str) -> dict[str, Json]:
    """Return the canonical values that a configuration states.

    Raises:
        FormatError: a value is of the wrong kind.
        MappingError: a value makes it another architecture than the tables describe.
    """
    native = table.unwrap(native)
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
    if canonical in FLAGS and type(value) is not bool:
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
    padding: int | None = None,
) -> Completed:
    """Return the whole canonical configuration of a matched source.

    Args:
        values: what its configuration states, canonically.
        fallback: what an earlier conversion kept of another configuration of the same model.
        match: the tensors, whose shapes are the last word on sizes.
        name: the configuration's name in messages.
        tokens: tokens of the vocabulary; None where there is none.
        padding: the padding token's row in it, where it has one.

    Raises:
        FormatError: configuration, weights and vocabulary contradict each other.
        MappingError: a value is neither stated, nor told by the shapes, nor defaulted by the system's code.
    """
    family = match.table.family
    sizes = {value: match.sizes[symbol] for symbol, value in family.sizes.items() if symbol in match.sizes}
    sizes[family.counts] = match.layers
    if HEADS in match.sizes:
        sizes["num_attention_heads"] = match.sizes[HEADS]
    elif match.sizes.get("head_size"):
        sizes["num_attention_heads"] = match.sizes["hidden"] // match.sizes["head_size"]
    _check_sizes(sizes, values, name, tokens)
    result: dict[str, Json] = {**fallback, **values, **_expressed(fallback, values, match.table), **sizes}
    result = {key: value for key, value in result.items() if key not in SOME or key in family.values}
    if "types" not in family.sizes:
        result["type_vocab_size"] = 0
    if "use_task_id" in family.values:
        # Who says nothing computes with what is stored; some store what they say they do not compute with.
        result["use_task_id"] = "tasks" in match.sizes and values.get("use_task_id") is not False
    if padding is not None:
        result.setdefault("pad_token_id", padding)
    notes = _spare_rows(sizes["vocab_size"], tokens)
    if result.get("use_task_id") and "use_task_id" in match.table.config.keys and "use_task_id" not in values:
        notes.append("Nothing states use_task_id: there is a task embedding, and it is taken to be computed with.")
    inferred = [f"{key} {size}" for key, size in sizes.items() if key not in values and key not in fallback]
    if inferred:
        notes.append(f"Read off the shapes: {', '.join(inferred)}.")
    if "num_attention_heads" not in result:
        result["num_attention_heads"], note = _head_count(match, sizes["hidden_size"])
        notes.append(note)
    notes += _apply_defaults(result, match)
    notes += _name_labels(result, values, match.sizes.get("labels"), name)
    if result["num_attention_heads"] < 1 or result["hidden_size"] % result["num_attention_heads"]:
        raise FormatError(
            f"{name} says {result['num_attention_heads']} attention heads, which do not divide the hidden size "
            f"{result['hidden_size']} of the weights"
        )
    return Completed(Config(**result), tuple(notes))


def _spare_rows(rows: int, tokens: int | None) -> list[str]:
    if tokens is None or tokens == rows:
        return []
    return [f"The word embedding has {rows - tokens} rows beyond the vocabulary's {tokens} tokens; they are kept."]


def _expressed(kept: Mapping[str, Json], stated: Mapping[str, Json], table: Table) -> dict[str, Json]:
    """Return the kept values that the stated ones do not contradict: they are how this system spells them."""
    return {
        key: value
        for key, value in kept.items()
        if key == "hidden_act"
        and key in stated
        and table.config.nearest_activation(value) == table.config.nearest_activation(stated[key])
    }


def _apply_defaults(result: dict[str, Json], match: Match) -> list[str]:
    """Fill in what the system's own code takes where nothing is said; return a sentence on it."""
    config, family = match.table.config, match.table.family
    if "attention_probs_dropout_prob" not in config.keys and "hidden_dropout_prob" in result:
        # A system with one dropout uses it in both places.
        result.setdefault("attention_probs_dropout_prob", result["hidden_dropout_prob"])
    missing = [key for key in (*REQUIRED, *family.values) if key not in result]
    absent = {key for symbol, key in family.sizes.items() if symbol not in match.sizes}
    stated = []
    for key in missing:
        if key in config.defaults:
            result[key] = config.defaults[key]
            stated.append(f"{key} {config.defaults[key]}")
        elif key == "type_vocab_size" and key not in family.sizes.values():
            result[key] = 0
        elif key not in absent or key in REQUIRED:
            raise MappingError(f"Nothing tells the source's {key}.", hint="Pass its configuration with --config FILE.")
    return [f"As {match.dialect.title}'s own code has it where nothing is said: {', '.join(stated)}."] if stated else []


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


def _head_count(match: Match, hidden: int) -> tuple[int, str]:
    dialect, table = match.dialect, match.table
    if hidden in table.head_counts:
        count = table.head_counts[hidden]
        return (
            count,
            f"num_attention_heads {count}: what {dialect.title}'s own configuration of hidden size {hidden} has.",
        )
    default = table.config.defaults.get("num_attention_heads")
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
    form = table.config
    flat = form.unwrap(base)
    native: dict[str, Json] = {**flat} if base else {**form.constants}
    stated = parse(base, form, "the configuration kept as residue") if base else {}
    said = {**form.defaults, **stated} if base else {}
    notes = []
    for canonical, value in config.as_dict().items():
        left_open = bool(base) and canonical in form.unstated and canonical not in stated
        if canonical in form.keys and said.get(canonical) != value and not left_open:
            spelled = form.nearest_activation(value) if canonical == "hidden_act" else value
            if spelled is None:
                raise MappingError(f"{dialect.title} has no activation {value}.")
            if canonical == "hidden_act" and form.activations[spelled] != value:
                notes.append(activation_difference(value, form.activations[spelled]))
            native |= dict.fromkeys(form.keys[canonical], spelled)
    architecture = table.architecture(heads)
    if architecture and form.architectures and not native.get("architectures"):
        native["architectures"] = [architecture]
    if base:
        native |= {key: dtype for key in form.dtype_keys if key in flat}
        if form.labels and len(config.labels) > 1 and said.get("labels") != config.labels:
            native |= form.extras(config, heads)
    else:
        native |= {**form.extras(config, heads), **dict.fromkeys(form.dtype_keys[:1], dtype)}
    notes += _unsaid(config, dialect, form)
    return dict(form.wrap(native, base)), tuple(notes)


def _unsaid(config: Config, dialect: Dialect, form: ConfigTable) -> list[str]:
    """Return sentences on values that the dialect's configuration has no key for, and its code takes otherwise."""
    found = []
    values = config.as_dict()
    one_dropout = "attention_probs_dropout_prob" not in form.keys and "hidden_dropout_prob" in form.keys
    if one_dropout and config.attention_probs_dropout_prob != config.hidden_dropout_prob:
        found.append(
            f"{dialect.title} knows one dropout: {config.hidden_dropout_prob} is written, and the attention's "
            f"{config.attention_probs_dropout_prob} is kept as residue."
        )
    if "hidden_act" not in form.keys and form.defaults.get("hidden_act", config.hidden_act) != config.hidden_act:
        found.append(activation_difference(config.hidden_act, form.defaults["hidden_act"]))
    others = ("hidden_dropout_prob", "max_relative_position")
    unsaid = [key for key in others if key in values and key not in form.keys]
    lost = [key for key in unsaid if values[key] != form.defaults.get(key, values[key])]
    if lost:
        stated = ", ".join(f"{key} {values[key]}" for key in lost)
        found.append(f"{dialect.title}'s configuration has no place for {stated}.")
    return found
