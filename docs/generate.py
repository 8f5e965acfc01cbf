"""Write the pages of this folder that come from the code: ``schema.md``, ``dialects/*.md``, ``schemas/*.json`` ...

``python docs/generate.py`` writes them; a test fails where they are stale. ``make docs`` then builds the
site of all pages.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import interlingua.mappings
from interlingua import cli
from interlingua.convert import json_forms
from interlingua.convert.batch import results
from interlingua.convert.batch.manifest_model import VERSION, manifest_schema
from interlingua.errors import InterlinguaError
from interlingua.mappings.config import ACTIVATIONS, Config, ConfigTable, Json
from interlingua.mappings.conventions import Conventions
from interlingua.mappings.dialect import BASE, MODEL, Dialect, FolderForm, Table
from interlingua.mappings.registry import DIALECTS, conversions
from interlingua.mappings.rules import Operation, PadRows, Rule, SplitHeads
from interlingua.mappings.schema import FAMILIES, LAYER, Family
from interlingua.verify.parity.outcome import SCHEMA, outcome_schema
from interlingua.verify.parity.typed_json import json_schema

FOLDER = Path(__file__).resolve().parent

LAYER_NORMS = {
    "biased, inside": "gamma (x - mean) / sqrt(variance + epsilon) + beta, the variance's divisor N",
    "unbiased, outside": "gamma (x - mean) / (deviation + epsilon) + beta, the deviation's divisor N - 1",
}
"""The values of Conventions.layer_norm as formulas."""

HEADER = "<!-- `make docs` writes this page from {source}. -->\n\n"


def pages() -> dict[str, str]:
    """Return every page that comes from the tables, by its path in this folder."""
    found = {"schema.md": HEADER.format(source="interlingua/mappings/schema.py and config.py") + schema_page()}
    for dialect in DIALECTS.values():
        module = module_of(dialect)
        source = module.__name__.replace(".", "/") + ".py"
        found[f"dialects/{dialect.name}.md"] = HEADER.format(source=source) + dialect_page(dialect, module)
    found["dialects/index.md"] = HEADER.format(source="interlingua/mappings/registry.py") + dialects_page()
    found["matrix.md"] = HEADER.format(source="interlingua/mappings/registry.py") + matrix_page()
    found["reference/command-line.md"] = HEADER.format(source="interlingua/cli/") + command_line_page()
    forms: dict[str, type[Any]] = {"batch-result": results.BatchForm, **json_forms.FORMS}
    schemas = {
        f"{name}-{json_forms.VERSION}": form_schema(COMMANDS.get(name, name), form) for name, form in forms.items()
    }
    schemas |= {f"parity-{SCHEMA}": outcome_schema(), f"batch-{VERSION}": manifest_schema()}
    for name, schema in schemas.items():
        found[f"schemas/{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    found["reference/json.md"] = HEADER.format(source="the schemas in docs/schemas/") + json_page(schemas)
    found["../README.md"] = readme((FOLDER / "../README.md").read_text(encoding="utf-8"))
    return found


# -- what converts to what


def matrix_page() -> str:
    """Return the page on every ordered pair of dialects, family by family."""
    parts = [
        "# What converts to what\n",
        "Rows are sources, columns targets. A cell says yes, or which family the model is written as. Every cell that "
        "is not empty is a test (`tests/convert/test_every_pair.py`): for each head of the family, a random model goes "
        "there and back, with equal fingerprints, and every byte of its tensors and its configuration as it was.\n",
    ]
    for family in FAMILIES:
        found = {(c.source, c.target): c.written_as for c in conversions() if c.family == family}
        sources = [name for name in DIALECTS if (name, name) in found]
        targets = [name for name in DIALECTS if any((source, name) in found for source in sources)]
        rows = (
            (f"`{source}`", *(cell(found.get((source, target)), family, source == target) for target in targets))
            for source in sources
        )
        parts.append(f"## {family}\n\n" + table(("", *(f"`{name}`" for name in targets)), rows))
    return "\n".join(parts)


def cell(written_as: str | None, family: str, same: bool) -> str:
    """Return the cell of one pair."""
    if written_as is None or same:
        return ""
    return "yes" if written_as == family else f"as {written_as}"


def readme(text: str) -> str:
    """Return the README with its table of dialects and families as the tables have it."""
    rows = (
        (f"[`{dialect.name}`](docs/dialects/{dialect.name}.md)", dialect.title, ", ".join(dialect.tables))
        for dialect in DIALECTS.values()
    )
    counts: dict[tuple[str, str], int] = {}
    for found in conversions():
        counts[found.source, found.target] = counts.get((found.source, found.target), 0) + 1
    grid = (
        (f"{number} `{source}`", *(str(counts.get((source, target), "")) for target in DIALECTS))
        for number, source in enumerate(DIALECTS, 1)
    )
    numbers = (str(number) for number in range(1, len(DIALECTS) + 1))
    tables = (table(("dialect", "system", "families"), rows), table(("families from, to", *numbers), grid))
    lines = f"{tables[0]}\nHow many families go from each (row) to each (column):\n\n{tables[1]}".splitlines()
    text = placed(text, "matrix", "\n".join(lines))
    return placed(
        text, "benchmarks in short", benchmarks_in_short((FOLDER / "benchmarks.md").read_text(encoding="utf-8"))
    )


def placed(page: str, what: str, text: str) -> str:
    """Return a page with a text between the two comments that ask for it."""
    inside = re.compile(rf"(<!-- {what} -->\n).*(\n<!-- end of {what} -->)", re.DOTALL)
    return inside.sub(lambda found: found[1] + text.strip() + found[2], page)


def benchmarks_in_short(page: str) -> str:
    """Return what the page of benchmarks comes to: how many pairs meet their goal, and BERT-base beside each peer."""
    sizes = re.findall(r"^### (.+)\n\n(\d+ of \d+) within their goal", page, re.MULTILINE)
    _, _, beside = page.partition("<!-- benchmark of peers -->")
    first = re.search(r"^### (.+)\n\n((?:\|.*\n)+)", beside, re.MULTILINE)
    if not sizes or first is None:
        return "Not measured yet."
    met = "; ".join(f"{met} with {size}" for size, met in sizes)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in first[2].splitlines()[2:]]
    head = ("today", "with", "s", "peak MB", "here: s", "peak MB", "times faster", "times less memory")
    rows = [
        (theirs[0], theirs[1], theirs[2], theirs[4], ours[2], ours[4], ours[5], ours[6])
        for theirs, ours in zip(cells[::2], cells[1::2], strict=True)
    ]
    return f"Ordered pairs of main dialects within their goal: {met}.\n\n{first[1]}:\n\n{table(head, rows)}"


def module_of(dialect: Dialect) -> ModuleType:
    """Return the module that defines a dialect."""
    names = [name for _, name, _ in pkgutil.iter_modules(interlingua.mappings.__path__) if name != "registry"]
    modules = (import_module(f"interlingua.mappings.{name}") for name in names)
    return next(module for module in modules if any(value is dialect for value in vars(module).values()))


# -- the canonical schema


def schema_page() -> str:
    """Return the page on canonical tensors and the canonical configuration."""
    parts = [
        "# Canonical schema\n",
        "Every dialect is a table between its own names and these. Linear weights are `[out, in]`; a model has no "
        f"prefix; `{LAYER}` is the number of a layer, from 0. The order is the canonical order, layer by layer.\n",
        *(family_section(family) for family in FAMILIES.values()),
        "## Configuration\n",
        table(("value", "what it is"), attributes(Config)),
        f"Activations: {listed(ACTIVATIONS)}. `gelu` is x/2 (1 + erf(x/sqrt 2)), `gelu_tanh` its approximation by "
        "tanh.\n",
    ]
    return "\n".join(parts)


def family_section(family: Family) -> str:
    """Return the tensors of one family."""
    rows = (
        (
            f"`{tensor.name}`",
            " x ".join(tensor.shape),
            f"{tensor.part}, not in every model" if tensor.optional else tensor.part,
            f"`{tensor.tied_to}`" if tensor.tied_to else "",
        )
        for tensor in family.tensors
    )
    sizes = "; ".join(f"{symbol} is `{value}`" for symbol, value in family.sizes.items())
    return (
        f"## Tensors of {family.name}\n\n"
        f"In shapes, {sizes}; labels is the number of labels.\n\n"
        f"{table(('tensor', 'shape', 'part', 'shares the data of'), rows)}"
    )


def attributes(described: type) -> list[tuple[str, str]]:
    """Return (attribute, what it is) of a class from the Attributes of its docstring."""
    _, _, text = (inspect.getdoc(described) or "").partition("Attributes:\n")
    text = text.replace("``ACTIVATIONS``", "the activations below")
    entries = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", text, re.MULTILINE)
    return [(f"`{name}`", " ".join(meaning.replace("``", "`").split())) for name, meaning in entries]


# -- the command line


def command_line_page() -> str:
    """Return the page on every command, as click has its help, and on the exit codes."""
    parts = [
        "# Command line\n",
        "With `--json` a command prints one JSON document and nothing else. A failure is one paragraph on "
        "standard error, and an [exit code](#exit-codes); what to do about it is in "
        "[Troubleshooting](../troubleshooting.md).\n",
    ]
    own_names = {id(cli.convert): "convert-checkpoint", id(cli.parity): "parity-check"}
    for name, command in sorted(cli.main.commands.items()):
        parts.append(command_section(name, command, own_names.get(id(command))))
    parts.append(f"## Exit codes\n\n{table(('exit code', 'meaning'), exit_codes())}")
    return "\n".join(parts)


def command_section(name: str, command: click.Command, own_name: str | None) -> str:
    """Return the section on one command."""
    context = click.Context(command, info_name=f"interlingua {name}", **command.context_settings)
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    also = f"\n`{own_name}` is the same command.\n" if own_name else ""
    options = (parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option))
    records = (option.get_help_record(context) for option in options)
    rows = ((f"`{record[0]}`", " ".join(record[1].split())) for record in records if record is not None)
    verbatim = re.compile(r"^\x08\n((?:.+(?:\n|$))+)", re.MULTILINE)  # Click's mark of a paragraph that is not wrapped.
    text = verbatim.sub(r"```text\n\1```\n", inspect.cleandoc(command.help or "") + "\n").rstrip("\n")
    return f"## {name}\n\n```text\n{usage}\n```\n{also}\n{text}\n\n{table(('option', 'what it does'), rows)}"


def exit_codes() -> Iterable[tuple[str, str]]:
    """Yield (exit code, meaning)."""
    yield "0", "Done, and true."
    kinds = [kind for kind in InterlinguaError.__subclasses__() if kind.__module__ == InterlinguaError.__module__]
    for kind in sorted(kinds, key=lambda kind: kind.exit_code):
        yield str(kind.exit_code), re.split(r"[;.]", inspect.getdoc(kind) or "")[0] + "."
    yield str(cli.BUG), "A fault of interlingua itself."
    yield str(cli.INTERRUPTED), "Interrupted: the output is there whole, or not at all."


# -- JSON documents


COMMANDS = {"batch-plan": "batch --dry-run", "batch-result": "batch"}
"""Name of a schema -> the command that prints it, where that is not its name."""


def form_schema(command: str, form: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema of a form."""
    found = json_schema(form)
    described = found["$defs"].pop(form.__name__)
    title = f"What `interlingua {command} --json` prints"
    return {"$schema": json_forms.DRAFT, "title": title, **described, "$defs": found["$defs"]}


def json_page(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page on the forms of JSON documents that have a schema."""
    parts = [
        "# JSON documents\n",
        "What commands print with `--json`, and the manifest that a batch reads. Each form has a "
        "[JSON Schema](https://json-schema.org), made from the code, with its version in its name.\n",
    ]
    for name, schema in schemas.items():
        parts.append(
            f"## {name}\n\n[{name}.json](../schemas/{name}.json): {schema['title']}. {schema['description']}\n"
        )
        parts.append(table(("key", "type", "what it is"), properties(schema, name)))
        for kind, described in schema["$defs"].items():
            parts.append(f"### {kind} of {name}\n\n{described['description']}\n")
            parts.append(table(("key", "type", "what it is"), properties(described, name)))
    return "\n".join(parts)


def properties(schema: Mapping[str, Any], document: str) -> Iterable[tuple[str, str, str]]:
    """Yield (key, type, what it is) of an object's properties."""
    required = schema.get("required", ())
    for key, value in schema.get("properties", {}).items():
        what = value.get("description", "").replace("[", "\\[")  # No link is meant.
        yield f"`{key}`", spelled_type(value, document), what if key in required else f"{what} May be left out."


def spelled_type(schema: Mapping[str, Any], document: str) -> str:
    """Return what a schema takes, in words."""
    if "$ref" in schema:
        kind = schema["$ref"].rpartition("/")[2]
        return f"[{kind}](#{slug(f'{kind} of {document}')})"
    if "const" in schema:
        return coded(schema["const"])
    if "enum" in schema:
        return " or ".join(coded(value) for value in schema["enum"])
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(spelled_type(choice, document) for choice in choices))
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {spelled_type(schema['items'], document)}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {spelled_type(schema['additionalProperties'], document)}"
    return " or ".join([schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", ["anything"]))


def slug(title: str) -> str:
    """Return the anchor that a heading gets, on code hosts and on the site alike."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


# -- dialects


def dialects_page() -> str:
    """Return the page that leads to every dialect's."""
    rows = (
        (f"[`{dialect.name}`]({dialect.name}.md)", dialect.title, ", ".join(dialect.tables), listed(dialect.containers))
        for dialect in DIALECTS.values()
    )
    return (
        "# Dialects\n\nA dialect is how one system names, lays out and stores its models. Each page has the system's "
        "own names beside the [canonical ones](../schema.md), its configuration, its files, and how its code "
        "computes.\n\n" + table(("dialect", "system", "families", "containers, the default first"), rows)
    )


def dialect_page(dialect: Dialect, module: ModuleType) -> str:
    """Return the page on one dialect."""
    summary, _, sources = (inspect.getdoc(module) or "").replace("``", "`").partition("\n\n")
    parts = [
        f"# `{dialect.name}`\n",
        f"{summary}\n\n{sources}\n",
        folder_section(dialect),
        *(section for entry in dialect.tables.values() for section in family_sections(entry)),
    ]
    return "\n".join(parts)


def folder_section(dialect: Dialect) -> str:
    """Return what a folder of a dialect holds, and one of a family that has its own form."""
    own = (f"Of {family}:\n\n{folder_table(dialect, form)}" for family, form in dialect.family_folders.items())
    first = f"The first container is the default.\n\n{folder_table(dialect, dialect.folder)}"
    return "\n".join(("## Folder\n", first, *own))


def folder_table(dialect: Dialect, form: FolderForm) -> str:
    """Return the files of one form of a dialect's folders."""
    rows = [(f"weights, {name}", f"`{form.weights[name]}`") for name in dialect.containers]
    rows += [
        (f"shards, {name}", f"`{shard.format(shard='00001-of-00002')}` ..., listed in `{index}`")
        for name, (shard, index) in form.shards.items()
    ]
    rows += [("configuration", f"`{form.config}`"), ("vocabulary", f"`{form.vocabulary}`")]
    if form.places:
        rows.append(("byte-level vocabulary", listed(form.places.values())))
    if form.sidecars:
        rows.append(("carried along", listed(form.sidecars)))
    rows += [(f"metadata of {name}", coded(values)) for name, values in form.metadata.items() if not callable(values)]
    return table(("what", "file"), rows)


def family_sections(entry: Table) -> tuple[str, ...]:
    """Return all on one family in a dialect: tensors, configuration, forward conventions."""
    return table_section(entry), config_section(entry.config), conventions_section(entry)


def table_section(entry: Table) -> str:
    """Return the tensors of one family in a dialect, canonical and native names side by side."""
    rows = (rule_row(rule, entry) for rule in entry.rules)
    return (
        f"## {entry.family.name}\n\n"
        f"Layer 0 stands for every layer.\n\n"
        f"{table(('canonical', 'native', 'operation', 'also read'), rows)}\n"
        + "".join(f"- {quirk}\n" for quirk in quirks(entry))
    )


def rule_row(rule: Rule, entry: Table) -> tuple[str, ...]:
    """Return the cells of one rule."""
    native = shown(rule.native, entry)
    if rule.head is not None:
        native += f" (with {rule.head})"
    others = (*rule.aliases, *rule.copies)
    done = [operation(rule.operation)] if rule.operation else []
    if rule.canonical in entry.rows:
        done.append(f"always {entry.rows[rule.canonical]} rows")
    if rule.always:
        done.append("written even where tied")
    return (
        f"`{rule.canonical.replace(LAYER, '0')}`",
        native,
        ", ".join(done),
        "<br>".join(shown(name, entry) for name in others),
    )


def shown(native: str, entry: Table) -> str:
    """Return a native name of layer 0, with the prefix that a model with heads has."""
    name = entry.models.get(entry.architectures[0][0], "") if entry.models else ""
    native = native.replace(LAYER, entry.numbering.spell(0)).replace(BASE, entry.base).replace(MODEL, name)
    return f"`{native}`"


def operation(done: Operation) -> str:
    """Say what an operation does on the way to the native tensor."""
    if isinstance(done, PadRows):
        count = abs(done.before)
        return f"{count} {'more' if done.before > 0 else 'fewer'} row{'s' if count > 1 else ''} in front"
    if isinstance(done, SplitHeads):
        return "`[heads, size]`"
    shapes = {None: "", 0: ", `[heads, size, out]`", 1: ", `[in, heads, size]`"}
    return f"transposed{shapes[done.heads]}"


def quirks(entry: Table) -> Iterable[str]:
    """Yield sentences on what the table's rows do not show."""
    if entry.base:
        yield f"`{entry.base}` stands before the encoder's names in a model with heads; a bare encoder has no prefix."
    if entry.bases:
        yield f"Read before the encoder's names: {listed(entry.bases)}, or nothing."
    for old, new in entry.renames:
        yield f"Names that end in `{old}` are read as `{new}`."
    if entry.slots:
        yield f"Left by a training run, and no part of the model: {listed(entry.slots)}."
    if entry.buffers:
        yield f"Buffers, which are no part of the model: {listed(sorted(entry.buffers))}."
    if entry.find_task is not None:
        first, _, rest = (inspect.getdoc(entry.find_task) or "").partition(": ")
        yield f"{first.replace('``', '`').replace('Say which', 'Found out from the checkpoint: which')}: {rest}"
    yield f"A name that begins with {listed(entry.scopes)} and is none of these makes it another architecture."
    if entry.architectures:
        classes = (f"`{name}` ({', '.join(sorted(heads)) or 'none of these'})" for name, heads in entry.architectures)
        yield f"Classes, by the heads that they need: {', '.join(classes)}."
    if entry.head_counts:
        counts = ", ".join(f"{hidden}: {count}" for hidden, count in entry.head_counts.items())
        yield f"Attention heads where nothing states them, by hidden size: {counts}."


def config_section(config: ConfigTable) -> str:
    """Return how a dialect spells the configuration."""
    names = [*config.keys, *(name for name in config.defaults if name not in config.keys)]
    rows = (
        (
            f"`{name}`",
            listed(config.keys.get(name, ())),
            coded(config.defaults[name]) if name in config.defaults else "",
        )
        for name in names
    )
    parts = ["### Configuration\n", table(("canonical", "keys", "where nothing is said"), rows)]
    spelled = ", ".join(f"`{native}` is `{canonical}`" for native, canonical in config.activations.items())
    parts.append(f"- Activations: {spelled}.")
    if config.constants:
        parts.append(f"- In a configuration made anew, besides: {pairs(config.constants)}.")
    if config.labels:
        parts.append(f"- Labels: `{config.labels}`.")
    if config.dtype_keys:
        parts.append(f"- Element type of the weights: {listed(config.dtype_keys)}.")
    allowed = "; ".join(f"`{key}` {' or '.join(map(coded, values))}" for key, values in config.only.items())
    if allowed:
        parts.append(f"- Where these are stated otherwise, it is another architecture: {allowed}.")
    return "\n".join(parts) + "\n"


def conventions_section(entry: Table) -> str:
    """Return how a dialect's system computes a family."""
    how = entry.conventions
    values = (
        ("LayerNorm", LAYER_NORMS[how.layer_norm]),
        ("epsilon", epsilon(how)),
        *((f"activation of {head}", act) for head, act in how.head_act.items()),
        ("added to masked scores", how.mask),
        ("positions", how.positions),
        ("embedding of the padding token", how.pad_row),
        ("source", how.source),
    )
    return f"### Forward\n\n{table(('what', 'how'), values)}"


def epsilon(how: Conventions) -> str:
    """Say which epsilon a system's LayerNorms have."""
    text = "the configuration's" if how.layer_norm_eps is None else f"always {how.layer_norm_eps:g}"
    if how.silent_eps is not None:
        text += f", {how.silent_eps:g} where it is silent"
    others = {} if how.embeddings_eps is None else {"the embeddings'": how.embeddings_eps}
    others |= {f"that of {head}": value for head, value in how.head_eps.items()}
    return text + "".join(f"; {what} always {value:g}" for what, value in others.items())


# -- Markdown


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def listed(names: Iterable[str]) -> str:
    """Return names as code, with commas."""
    return ", ".join(f"`{name}`" for name in names)


def coded(value: Json) -> str:
    """Return a value as code, the way JSON has it."""
    return f"`{json.dumps(value)}`"


def pairs(values: Mapping[str, Json]) -> str:
    """Return keys with values."""
    return ", ".join(f"`{key}` = {coded(value)}" for key, value in values.items())


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
