"""What a batch's manifest may say: the one definition that checks it and that its JSON Schema is made of.

Needs pydantic, so it is imported only where a manifest is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from interlingua.convert.batch.jobs import CHECKS
from interlingua.convert.conversion import parse_size
from interlingua.convert.json_forms import DRAFT
from interlingua.errors import UsageError, suggestion
from interlingua.formats.registry import CONTAINERS
from interlingua.mappings import registry as dialects
from interlingua.mappings.config import Json

VERSION = 1
"""Version of the manifest: raised when a manifest of the last one would mean something else."""

TEMPLATES = {"templates": True}
"""Context in which a value that names a variable passes: nothing is known of it yet."""

REFERENCE: dict[str, Json] = {"type": "string", "pattern": r"\$\{"}
"""JSON Schema of a text that names a variable."""


def problem(text: str, hint: str | None = None, key: str | None = None) -> PydanticCustomError:
    """Return the error that says what is wrong, what to do, and with which key of a mapping it is."""
    return PydanticCustomError("manifest", "{problem}", {"problem": text, "hint": hint, "key": key})


def _awaits(value: object, info: ValidationInfo) -> bool:
    """Whether a value is known only once its variables are."""
    return info.context is TEMPLATES and isinstance(value, str) and "${" in value


def _one_of(what: str, known: Iterable[str]) -> Callable[[str, ValidationInfo], str]:
    """Return the check that a text is one of those."""

    def check(value: str, info: ValidationInfo) -> str:
        if value not in names and not _awaits(value, info):
            raise problem(f"there is no {what} {value!r}", suggestion(value, names))
        return value

    names = tuple(known)
    return check


def _names(known: Iterable[str], other: dict[str, Json]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"enum": list(known)}, other]})


def _text(value: Any) -> str:
    """Return a scalar as the text that takes a variable's place."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value
    raise problem("must be a text, a whole number or a boolean", "Put it in quotes.")


def _flag(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> bool:
    return False if _awaits(value, info) else bool(handler(value))


def _size(value: str, info: ValidationInfo) -> str:
    if not _awaits(value, info):
        try:
            parse_size(value)
        except UsageError as error:
            raise problem(error.message.removesuffix("."), error.hint) from error
    return value


# Packages may bring dialects and families, so that the schema, which is published, must let others pass.
Dialect = Annotated[
    str,
    AfterValidator(_one_of("dialect", dialects.DIALECTS)),
    _names((dialect.name for dialect in dialects.OWN), {"type": "string"}),
]
FamilyName = Annotated[
    str, AfterValidator(_one_of("family", dialects.families())), _names(dialects.FAMILIES, {"type": "string"})
]
_WRITTEN = tuple(name for name, container in CONTAINERS.items() if container.writes)
ContainerName = Annotated[str, AfterValidator(_one_of("container", _WRITTEN)), _names(_WRITTEN, REFERENCE)]
_DTYPES = ("keep", "float32", "float16", "bfloat16")
Dtype = Annotated[str, AfterValidator(_one_of("element type", _DTYPES)), _names(_DTYPES, REFERENCE)]
_RESIDUES = ("keep", "drop", "error")
ResidueChoice = Annotated[str, AfterValidator(_one_of("choice", _RESIDUES)), _names(_RESIDUES, REFERENCE)]
_PRESERVES = ("weights", "outputs")
Preserve = Annotated[str, AfterValidator(_one_of("choice", _PRESERVES)), _names(_PRESERVES, REFERENCE)]
Size = Annotated[
    str, BeforeValidator(_text), AfterValidator(_size), WithJsonSchema({"type": ["string", "integer"], "minimum": 1})
]
Flag = Annotated[bool, WrapValidator(_flag), WithJsonSchema({"anyOf": [{"type": "boolean"}, REFERENCE]})]
Scalar = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "integer", "boolean"]})]
Text = Annotated[str, Field(min_length=1)]
Named = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]


class Section(BaseModel):
    """A mapping of the manifest: its keys are those of the command line, and there are no others."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, value: Any) -> Any:
        known = [str(field.alias) for field in cls.model_fields.values()]
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                raise problem("there is no such key", suggestion(key, known), key)
        return value


class Golden(Section):
    """The check against kept activations."""

    golden: Text = Field(description="File of activations that the output's must equal, relative to the manifest.")


_KINDS = tuple(name for name in CHECKS if name != "golden")
CheckName = Annotated[str, AfterValidator(_one_of("check", _KINDS)), _names(_KINDS, REFERENCE)]


def _kind_of_check(value: object) -> str | None:
    if isinstance(value, str):
        return "name"
    return "golden" if isinstance(value, dict) else None


Check = Annotated[
    Annotated[CheckName, Tag("name")] | Annotated[Golden, Tag("golden")],
    Discriminator(
        _kind_of_check,
        custom_error_type="check",
        custom_error_message="must be `weights`, `parity`, or `golden: FILE`",
    ),
]


class Settings(Section):
    """What may be said of all jobs, of one, or of one target: the options of `interlingua convert`, and checks."""

    container: ContainerName | None = Field(None, description="The output's container; without: the dialect's own.")
    dtype: Dtype | None = Field(None, description="Element type of floating-point weights.")
    max_shard_size: Size | None = Field(None, description="Largest weights file, such as 5GB; more become shards.")
    residue: ResidueChoice | None = Field(None, description="What to do with what the target cannot hold.")
    preserve: Preserve | None = Field(None, description="Keep every number, or what the model computes.")
    keep_names: Flag | None = Field(None, description="Convert the container alone, of any model; without `to`.")
    family: FamilyName | None = Field(None, description="The model's family, whatever its configuration says.")
    dialect: Dialect | None = Field(None, alias="from", description="The source's dialect; without: found out.")
    config: Text | None = Field(None, description="The source's configuration, relative to the manifest.")
    vocab: Text | None = Field(None, description="The source's vocabulary, relative to the manifest.")
    submodel: Text | None = Field(None, description="Which model to take where a file holds several.")
    overwrite: Flag | None = Field(None, description="Replace a checkpoint that is where the output goes.")
    no_sync: Flag | None = Field(None, description="Leave writing to disk to the system, as cp does.")
    checks: list[Check] | None = Field(None, description="What each output is held against; without: its weights.")
    output: Text | None = Field(
        None,
        description="Where the output goes, below `folder`, or a URI; {name} and {to} stand for the job's name and its "
        "dialect.",
    )


def _kind_of_target(value: object) -> str | None:
    if isinstance(value, str):
        return "one"
    if isinstance(value, list):
        return "several"
    return "options" if isinstance(value, dict) else None


Targets = Annotated[
    Annotated[Dialect, Tag("one")]
    | Annotated[list[Dialect], Field(min_length=1), Tag("several")]
    | Annotated[dict[Dialect, Settings | None], Field(min_length=1), Tag("options")],
    Discriminator(
        _kind_of_target,
        custom_error_type="targets",
        custom_error_message="must be a dialect, a list of dialects, or a mapping from dialects to options",
    ),
]


class Defaults(Settings):
    """What holds for every job that does not say otherwise."""

    to: Targets | None = Field(
        None, description="The outputs' dialects; options of one hold for every job that makes it."
    )
    folder: Text | None = Field(
        None, description="Folder of all outputs, relative to the manifest; or a URI: s3://, gs:// or hf://."
    )
    state: Text | None = Field(
        None,
        description="Folder of what a batch remembers, relative to the manifest; without: that of the outputs, or, "
        "where `folder` is a URI, the manifest's.",
    )


class JobEntry(Settings):
    """Sources, and what to make of each."""

    source: Text = Field(
        description="A folder, a weights file or an archive, relative to the manifest; or a pattern (*, ?, [], **); "
        "or a URI (s3://, gs://, hf://, https://), the first three with * and [], too."
    )
    name: Annotated[str, BeforeValidator(_text), Field(min_length=1)] | None = Field(
        None, description="What it is called; {stem} and {parent} stand for the last parts of the source's path."
    )
    to: Targets | None = Field(None, description="The output's dialect, or several, each with its options.")
    matrix: dict[Named, Annotated[list[Scalar], Field(min_length=1)]] | None = Field(
        None, description="Variables with several values each: a job is made of every combination."
    )
    exclude: list[Annotated[dict[Named, Scalar], Field(min_length=1)]] | None = Field(
        None, description="Combinations that are left out."
    )


class ManifestModel(Section):
    """A batch: which checkpoints are converted to what, and how that is checked."""

    version: Literal[1] = Field(description="Version of the manifest's form.")
    variables: dict[Named, Scalar | None] | None = Field(
        None, description="Texts that ${name} stands for; null: `--set name=value` has to give one."
    )
    defaults: Defaults | None = Field(None, description="What holds for every job that does not say otherwise.")
    jobs: list[JobEntry] = Field(min_length=1, description="The sources.")


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest."""
    made = ManifestModel.model_json_schema()
    return {
        "$schema": DRAFT,
        **made,
        "title": "Manifest of interlingua batch",
    }
