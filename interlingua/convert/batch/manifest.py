"""A batch's manifest: reading it, and the jobs that it stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from interlingua.convert.batch.conflicts import refuse_conflicts
from interlingua.convert.batch.expansion import MAX_JOBS, combinations, declared, formatted, substituted, text_of
from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.manifest_uris import joined, matching, place_of
from interlingua.convert.batch.manifest_yaml import Document, Place, read_yaml
from interlingua.convert.batch.places import readable
from interlingua.convert.conversion import Options, parse_size
from interlingua.convert.locate import usual_names
from interlingua.convert.remote.uris import Uri
from interlingua.convert.source import Asked
from interlingua.errors import UsageError
from interlingua.formats.archive_names import name_flaw
from interlingua.formats.registry import CONTAINERS, WEIGHT_SUFFIXES
from interlingua.mappings import registry as dialects
from interlingua.mappings.config import Json

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from interlingua.convert.batch.manifest_model import Defaults, JobEntry, Settings, Targets

    Model = TypeVar("Model", bound=BaseModel)

FOLDER = "converted"
"""Folder of all outputs, beside the manifest, where it names none."""

NAME = "{stem}"
OUTPUT = "{name}/{to}"
"""What a job is called and where its output goes, where nothing is said."""

ABOUT_THE_BATCH = ("folder", "state")
"""Keys of the defaults that are no job's."""

ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip")
"""Endings that are left out of names."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose form is right; what its variables stand for is another question.

    Attributes:
        path: its file, to whose folder its paths are relative.
        document: what it says, and on which lines.
    """

    path: Path
    document: Document


def load_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest and check its form.

    Raises:
        FormatError: it is missing, too long, or no YAML.
        UsageError: it says what no manifest can say (with file, line and key), or pydantic is missing.
    """
    try:
        from interlingua.convert.batch.manifest_model import TEMPLATES, ManifestModel
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("pydantic"):
            raise
        raise UsageError(
            "Reading a manifest needs pydantic, which is not installed.",
            hint="Install it: pip install 'interlingua[batch]'",
        ) from error
    document = read_yaml(Path(path))
    _validated(ManifestModel, document.value, document, (), TEMPLATES)
    return Manifest(Path(path), document)


def state_folder(manifest: Manifest, variables: Mapping[str, str]) -> Path:
    """Return the folder that a batch keeps its own files in: one that is named, or that of the outputs.

    Where the outputs are elsewhere, it is the manifest's.

    Raises:
        UsageError: as ``jobs_of``.
    """
    scope, place = declared(manifest.document, variables), ("defaults", "state")
    text = _default(manifest, "state")
    if text is None:
        folder = _output_folder(manifest, scope)
        return manifest.path.parent if isinstance(folder, Uri) else folder
    found = place_of(str(substituted(text, scope, manifest.document, place)), manifest.document, place)
    if isinstance(found, Uri):
        words = f"{found} is not on this machine, and a batch's state is"
        raise manifest.document.error(place, words, "Name a folder.")
    return Path(os.path.normpath(manifest.path.parent / found))


def jobs_of(manifest: Manifest, variables: Mapping[str, str]) -> tuple[Job, ...]:
    """Return every job that a manifest stands for, in its order.

    Args:
        manifest: the manifest.
        variables: values of its variables that go before its own.

    Raises:
        UsageError: a variable, a pattern or a combination stands for nothing, options do not fit, or jobs are in
            each other's way; each with file, line and key.
    """
    scope = declared(manifest.document, variables)
    entries = manifest.document.value["jobs"]
    folder = _output_folder(manifest, scope)
    jobs: list[Job] = []
    for number in range(len(entries) if isinstance(entries, list) else 0):
        for job in _jobs_of_entry(manifest, number, scope, folder):
            jobs.append(job)
            if len(jobs) > MAX_JOBS:
                raise manifest.document.error(("jobs", number), f"makes it more than {MAX_JOBS} jobs")
    refuse_conflicts(jobs, manifest.path)
    return tuple(jobs)


def _output_folder(manifest: Manifest, scope: Mapping[str, str]) -> Path | Uri:
    place = ("defaults", "folder")
    text = substituted(_default(manifest, "folder") or FOLDER, scope, manifest.document, place)
    found = place_of(str(text), manifest.document, place, written=True)
    return found if isinstance(found, Uri) else Path(os.path.normpath(manifest.path.parent / found))


def _default(manifest: Manifest, key: str) -> str | None:
    """Return what the defaults say of the batch itself; None: nothing."""
    defaults = manifest.document.value.get("defaults")
    said = defaults.get(key) if isinstance(defaults, dict) else None
    return None if said is None else str(said)


# -- one entry of the manifest


@dataclass(frozen=True, slots=True)
class _Levels:
    """Settings that hold for an output, the most particular first, each with its place in the manifest."""

    document: Document
    sections: tuple[tuple[Place, Settings], ...]

    def find(self, name: str) -> tuple[Any, Place]:
        """Return a setting and where it is said; None where nothing is said, or null, which undoes what others say."""
        for place, section in self.sections:
            if name in section.model_fields_set:
                return getattr(section, name), (*place, str(type(section).model_fields[name].alias))
        return None, self.sections[0][0]

    def get(self, name: str) -> Any:
        """Return a setting; None where nothing is said."""
        return self.find(name)[0]


def _jobs_of_entry(manifest: Manifest, number: int, scope: Mapping[str, str], folder: Path | Uri) -> Iterator[Job]:
    document, place = manifest.document, ("jobs", number)
    raw = _section(document.value, "jobs", number)
    matrix = {
        key: [_text(value, scope, document, (*place, "matrix", key, at)) for at, value in enumerate(_list(values))]
        for key, values in _section(raw, "matrix").items()
    }
    exclude = [
        {key: _text(value, scope, document, (*place, "exclude", at, key)) for key, value in _section(entry).items()}
        for at, entry in enumerate(_list(raw.get("exclude")))
    ]
    for key in matrix:
        if key in scope:
            raise document.error((*place, "matrix", key), "is a variable of the manifest, too", "Rename one of them.")
    for combination in combinations(matrix, exclude, document, place) if matrix else ({},):
        made = _entry(document, place, {**scope, **combination})
        suffix = "".join(f"-{combination[key]}" for key in _unnamed(raw, matrix))
        yield from _Entry(manifest, place, *made, suffix, folder).jobs()


def _entry(document: Document, place: Place, scope: Mapping[str, str]) -> tuple[JobEntry, Defaults]:
    """Return an entry and the defaults with their variables replaced."""
    from interlingua.convert.batch.manifest_model import Defaults, JobEntry

    own = {k: v for k, v in _section(document.value, *place).items() if k not in ("matrix", "exclude")}
    common = {k: v for k, v in _section(document.value, "defaults").items() if k not in ABOUT_THE_BATCH}
    entry = _validated(JobEntry, substituted(own, scope, document, place), document, place)
    defaults = _validated(Defaults, substituted(common, scope, document, ("defaults",)), document, ("defaults",))
    return entry, defaults


def _unnamed(raw: Mapping[str, Json], matrix: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the keys of a matrix whose values would not be seen in the names of the jobs."""
    seen = f"{raw.get('name') or raw.get('source')}{_dialects(raw.get('to'))}"
    return [key for key in matrix if f"${{{key}}}" not in seen]


def _section(value: Json, *place: str | int) -> dict[str, Json]:
    """Return a mapping of a manifest whose form is right; an empty one where there is none."""
    for part in place:
        value = value.get(part) if isinstance(value, dict) else value[part]
    return value or {}


def _list(value: Json) -> list[Json]:
    return value or []


def _text(value: Json, scope: Mapping[str, str], document: Document, place: Place) -> str:
    return str(substituted(text_of(value), scope, document, place))


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the manifest in one combination of its matrix, its variables replaced.

    Attributes:
        manifest: the manifest.
        place: where the entry is in it.
        entry: what it says.
        defaults: what all entries say.
        suffix: what tells the names of its jobs from those of the other combinations.
        folder: folder of all outputs.
    """

    manifest: Manifest
    place: Place
    entry: JobEntry
    defaults: Defaults
    suffix: str
    folder: Path | Uri

    def jobs(self) -> Iterator[Job]:
        """Yield a job for each source and target."""
        targets = list(self._targets())
        for source in self._sources():
            name = self._name(source)
            for dialect, line, levels in targets:
                yield self._job(source, name, dialect, line, levels)

    def _targets(self) -> Iterator[tuple[str | None, int, _Levels]]:
        """Yield each target's dialect, its line, and its settings."""
        document, place = self.manifest.document, self.place
        whole = _Levels(document, ((place, self.entry), (("defaults",), self.defaults)))
        if whole.get("keep_names"):
            if self.entry.to is not None:
                raise document.error((*place, "to"), "names a dialect, and keep-names keeps the names", "Pass one.")
            yield None, document.line_of(place), whole
            return
        said = (*place, "to") if self.entry.to is not None else ("defaults", "to")
        chosen, common = _by_dialect(self.entry.to), _by_dialect(self.defaults.to)
        for number, dialect in enumerate(names := _dialects(self.entry.to or self.defaults.to)):
            if dialect in names[:number]:
                raise document.error((*said, number), f"names {dialect!r} twice")
            levels = (
                ((*place, "to", dialect), chosen.get(dialect)),
                (place, self.entry),
                (("defaults", "to", dialect), common.get(dialect)),
                (("defaults",), self.defaults),
            )
            line = document.lines.get((*said, number), document.line_of((*said, dialect)))
            own = line if said[0] == "jobs" else document.line_of(place)
            yield dialect, own, _Levels(document, tuple((where, part) for where, part in levels if part is not None))
        if not names:
            raise document.error(place, "nothing says what to convert to", "Give it `to`, or the defaults.")

    def _sources(self) -> list[str]:
        """Return the paths or URIs that the entry's source stands for."""
        document, place, base = self.manifest.document, (*self.place, "source"), self.manifest.path.parent
        source = place_of(self.entry.source, document, place)
        if isinstance(source, Uri):
            return matching(source, self.folder if isinstance(self.folder, Uri) else None, document, place)
        text = str(source) if "://" in self.entry.source else self.entry.source
        path = os.path.normpath(base / text)
        if os.path.lexists(path) or not any(char in text for char in "*?["):
            return [path]
        pattern = text if os.path.isabs(text) else os.path.join(glob.escape(str(base)), text)
        found = {os.path.normpath(match) for match in islice(glob.iglob(pattern, recursive=True), MAX_JOBS + 1)}
        if len(found) > MAX_JOBS:
            raise document.error(place, f"{text!r} matches more than {MAX_JOBS} paths")
        # What an earlier run of the same batch made is no source of the next one.
        made = self._made()
        left = sorted(match for match in found if made is None or not Path(match).is_relative_to(made))
        if not left:
            raise document.error(place, f"{text!r} matches nothing", f"It is looked for in {base.absolute()}.")
        return left

    def _made(self) -> Path | None:
        """Return what holds outputs and nothing else: the outputs' folder, unless the sources are in there."""
        if isinstance(self.folder, Uri):
            return None
        base = Path(os.path.normpath(self.manifest.path.parent))
        return self.folder / FOLDER if base.is_relative_to(self.folder) else self.folder

    def _name(self, source: str) -> str:
        document, place = self.manifest.document, self.place
        template = f"{self.entry.name or NAME}{self.suffix}"
        name = formatted(
            template, {"stem": _stem(source), "parent": readable(source).parent.name}, document, (*place, "name")
        )
        flaw = name_flaw(name)
        if flaw is not None:
            raise document.error((*place, "name"), f"the name {name!r} {flaw}", "Give it another `name`.")
        return name

    def _job(self, source: str, name: str, dialect: str | None, line: int, levels: _Levels) -> Job:
        document = self.manifest.document
        if dialect is not None and levels.get("keep_names"):
            raise document.error(levels.find("keep_names")[1], "a target keeps no names", "Say so of the whole job.")
        options = self._options(dialect, levels)
        checks, golden = _checks(levels)
        if options.keep_names and "parity" in checks:
            raise document.error(levels.find("checks")[1], "parity needs models, and keep-names looks at none")
        to = dialect or str(options.container)
        template, place = levels.find("output")
        output = formatted(template or OUTPUT, {"name": name, "to": to}, document, place)
        return Job(
            name=f"{name}/{to}",
            source=source,
            target=self._target(output, place),
            options=options,
            checks=checks,
            golden=self._beside(golden, levels.find("checks")[1]),
            line=line,
        )

    def _options(self, dialect: str | None, levels: _Levels) -> Options:
        container, place = levels.find("container")
        if dialect is None and container is None:
            raise levels.document.error(place, "keep-names needs a container", "Give it `container`.")
        allowed = dialects.find(dialect).containers if dialect is not None else tuple(CONTAINERS)
        if container is not None and container not in allowed:
            raise levels.document.error(
                place, f"{dialect} does not read {container}", f"It reads {', '.join(allowed)}."
            )
        size = levels.get("max_shard_size")
        defaults = Options()
        return Options(
            to=dialect,
            source=Asked(
                dialect=levels.get("dialect"),
                family=levels.get("family"),
                config=self._beside(*levels.find("config")),
                vocabulary=self._beside(*levels.find("vocab")),
                submodel=levels.get("submodel"),
            ),
            container=container,
            dtype=levels.get("dtype") or defaults.dtype,
            max_shard_size=parse_size(size) if size else defaults.max_shard_size,
            residue=levels.get("residue") or defaults.residue,
            preserve=levels.get("preserve") or defaults.preserve,
            keep_names=dialect is None,
            overwrite=bool(levels.get("overwrite")),
            sync=not levels.get("no_sync"),
        )

    def _target(self, output: str, place: Place) -> str:
        """Return where an output goes."""
        found = place_of(output, self.manifest.document, place, written=True)
        if isinstance(found, Uri):
            return str(found)
        if isinstance(self.folder, Uri):
            return str(joined(self.folder, output, self.manifest.document, place))
        return os.path.normpath(self.folder / found)

    def _beside(self, path: str | None, place: Place) -> str | None:
        """Return a path of the manifest as one from here."""
        if path is None:
            return None
        found = place_of(path, self.manifest.document, place)
        if isinstance(found, Uri):
            raise self.manifest.document.error(place, f"{found} is not on this machine", "Fetch that file first.")
        return os.path.normpath(self.manifest.path.parent / found)


def _by_dialect(targets: Targets | None) -> Mapping[str, Settings | None]:
    return targets if isinstance(targets, dict) else {}


def _dialects(targets: Targets | None) -> list[str]:
    return [targets] if isinstance(targets, str) else list(targets or ())


def _checks(levels: _Levels) -> tuple[tuple[str, ...], str | None]:
    """Return the names of the checks in the order of the manifest, and the file of kept activations."""
    said, place = levels.find("checks")
    if said is None:
        return ("weights",), None
    names = [check if isinstance(check, str) else "golden" for check in said]
    if len(set(names)) < len(names):
        raise levels.document.error(place, "names a check twice")
    return tuple(names), next((check.golden for check in said if not isinstance(check, str)), None)


def _stem(source: str) -> str:
    """Return what a source is called: its folder's name, where its own is that of any model's weights."""
    path = readable(source)
    if path.name in usual_names() and path.parent.name:
        return path.parent.name
    ending = next((ending for ending in (*ARCHIVES, *WEIGHT_SUFFIXES) if path.name.endswith(ending)), "")
    return path.name.removesuffix(ending) or path.name


# -- what pydantic finds


def _validated(
    model: type[Model], value: Json, document: Document, place: Place, context: dict[str, Any] | None = None
) -> Model:
    from pydantic import ValidationError

    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise _explained(error, value, document, place) from error


def _explained(error: ValidationError, value: Json, document: Document, place: Place) -> UsageError:
    """Return the first of what pydantic found, by line."""
    found = []
    for entry in error.errors(include_url=False):
        context = entry.get("ctx", {})
        where = (*place, *_path(value, entry["loc"]))
        if entry["type"] == "missing":
            where = (*where, entry["loc"][-1])
        if context.get("key"):
            where = (*where, context["key"])
        words = entry["msg"].replace("Input should", "must").replace("Field required", "is missing")
        found.append((document.line_of(where), where, words, context.get("hint")))
    _, where, words, hint = min(found, key=lambda each: each[0])
    more = f" (the first of {len(found)} problems)" if len(found) > 1 else ""
    return document.error(where, f"{words[:1].lower()}{words[1:]}{more}", hint)


def _path(value: Json, location: Sequence[str | int]) -> Place:
    """Return where a location of pydantic is in a value: without the names of the kinds that it tried on the way."""
    place: Place = ()
    for part in location:
        inside = isinstance(value, dict) and part in value
        if inside or (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            value, place = value[part], (*place, part)
    return place
