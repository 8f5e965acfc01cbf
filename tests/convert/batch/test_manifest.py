"""From a manifest to jobs: what each of its words does, and errors that name file, line and key."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.manifest import jobs_of, load_manifest, state_folder
from interlingua.convert.conversion import Options
from interlingua.convert.source import Asked
from interlingua.errors import FormatError, InterlinguaError, UsageError
from interlingua.mappings.registry import DIALECTS

pytest.importorskip("pydantic")
jsonschema = pytest.importorskip("jsonschema")

DOCS = Path(__file__).resolve().parents[3] / "docs"
EXAMPLE = DOCS / "batch-example.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "zoo.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def jobs(folder: Path, text: str, **variables: str) -> tuple[Job, ...]:
    return jobs_of(load_manifest(write(folder, text)), variables)


def entry(text: str) -> str:
    """A manifest of one job, whose keys begin on line 3."""
    return "version: 1\njobs:\n  - " + text.replace("\n", "\n    ") + "\n"


def schema() -> dict:
    return json.loads((DOCS / "schemas" / "batch-1.json").read_text(encoding="utf-8"))


def allows(text: str) -> bool:
    return jsonschema.Draft202012Validator(schema()).is_valid(yaml.safe_load(text))


# -- the example


def test_the_example_is_a_zoo_of_three_models(tmp_path: Path) -> None:
    google = tmp_path / "models" / "google"
    google.mkdir(parents=True)
    for name in ("uncased_L-2.zip", "uncased_L-4.zip"):
        (google / name).touch()
    found = jobs(tmp_path, EXAMPLE.read_text(encoding="utf-8"))
    assert [job.name for job in found] == [
        "minilm/hf",
        "minilm/paddle",
        "minilm/uer",
        "google-uncased_L-2-float32/hf",
        "google-uncased_L-4-float32/hf",
        "google-uncased_L-2-float16/hf",
        "google-uncased_L-4-float16/hf",
        "google-uncased_L-2-float32/mindspore",
        "google-uncased_L-4-float32/mindspore",
        "ernie-3.0-base-zh/hf",
        "ernie-3.0-base-zh/uer",
    ]
    assert found[0].checks == ("weights", "parity", "golden")
    assert found[0].golden == str(tmp_path / "golden" / "minilm.act")
    assert found[6].options == Options(to="hf", dtype="float16")
    assert found[9].options == Options(
        to="hf", source=Asked(dialect="paddle"), container="torch-zip", preserve="outputs"
    )
    assert found[10].options.max_shard_size == 500_000_000
    assert all(job.target == str(tmp_path / "converted" / job.name) for job in found)


def test_the_schema_is_one_and_allows_the_example() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")), schema())


@pytest.mark.parametrize(
    "text",
    [
        entry("source: a"),
        entry("source: a\nto: {hf: {dtype: float16, checks: []}, uer: }"),
        entry("source: a\nto: ${x}\ndtype: ${y}\noverwrite: ${z}\nmax-shard-size: 100"),
        entry("source: a\nto: [hf, acme]\nmatrix: {a: [1, x, true]}\nexclude: [{a: 1}]"),
        "version: 1\nvariables: {a: , b: 1}\ndefaults: {to: hf, folder: out}\njobs: [{source: a}]\n",
    ],
)
def test_the_schema_allows_what_the_reader_allows(text: str) -> None:
    assert allows(text)


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\n",
        "version: 2\njobs: [{source: a}]\n",
        "version: 1\njobs: []\n",
        entry("sources: a"),
        entry("source: a\ndtype: float8"),
        entry("source: a\nto: []"),
        entry("source: a\nto: {hf: {source: b}}"),
        entry("source: a\nchecks: [speed]"),
        entry("source: a\nmatrix: {a: []}"),
        entry("source: a\noverwrite: 'yes'"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(tmp_path: Path, text: str) -> None:
    assert not allows(text)
    if "yes" not in text:  # In a text, the reader takes every spelling of a boolean: --set has only texts.
        with pytest.raises(UsageError, match=r"zoo\.yaml:\d+: "):
            load_manifest(write(tmp_path, text))


# -- what the words do


def test_every_option_arrives(tmp_path: Path) -> None:
    (job,) = jobs(
        tmp_path,
        entry(
            "source: a\nname: 7\nto: uer\ncontainer: torch-zip\ndtype: bfloat16\nmax-shard-size: 2GiB\n"
            "residue: error\npreserve: outputs\nfamily: bert\nfrom: hf\nconfig: c.json\nvocab: v.txt\nsubmodel: ema\n"
            "overwrite: true\nno-sync: true\nchecks: [parity]\noutput: all/{to}/{name}"
        ),
    )
    assert job == Job(
        name="7/uer",
        source=str(tmp_path / "a"),
        target=str(tmp_path / "converted" / "all" / "uer" / "7"),
        options=Options(
            to="uer",
            source=Asked("hf", "bert", str(tmp_path / "c.json"), str(tmp_path / "v.txt"), "ema"),
            container="torch-zip",
            dtype="bfloat16",
            max_shard_size=2 << 30,
            residue="error",
            preserve="outputs",
            overwrite=True,
            sync=False,
        ),
        checks=("parity",),
        line=5,
    )


def test_without_options_a_job_is_what_the_command_does(tmp_path: Path) -> None:
    (job,) = jobs(tmp_path, entry("source: a\nto: hf"))
    assert (job.options, job.checks, job.golden) == (Options(to="hf"), ("weights",), None)


def test_the_more_particular_goes_first_and_null_undoes(tmp_path: Path) -> None:
    text = """version: 1
defaults: {to: {hf: {residue: drop, dtype: float32}, uer: }, dtype: float16, residue: error, checks: [parity]}
jobs:
  - source: a
  - {source: b, dtype: bfloat16, to: [hf, uer]}
  - {source: c, dtype: bfloat16, to: {hf: {dtype: keep, checks: }}}
"""
    found = {job.name: (job.options.dtype, job.options.residue, job.checks) for job in jobs(tmp_path, text)}
    assert found == {
        "a/hf": ("float32", "drop", ("parity",)),
        "a/uer": ("float16", "error", ("parity",)),
        "b/hf": ("bfloat16", "drop", ("parity",)),
        "b/uer": ("bfloat16", "error", ("parity",)),
        "c/hf": ("keep", "drop", ("weights",)),
    }


def test_checks_may_be_none(tmp_path: Path) -> None:
    (job,) = jobs(tmp_path, entry("source: a\nto: hf\nchecks: []"))
    assert job.checks == ()


def test_a_job_that_keeps_names_has_a_container_for_a_dialect(tmp_path: Path) -> None:
    text = "version: 1\ndefaults: {to: hf}\njobs: [{source: a, keep-names: true, container: npz}]\n"
    (job,) = jobs(tmp_path, text)
    assert job.name == "a/npz"
    assert job.options == Options(keep_names=True, container="npz")


def test_a_pattern_stands_for_what_it_matches_but_earlier_outputs(tmp_path: Path) -> None:
    for name in ("b", "a", "converted/a", "x/a"):
        (tmp_path / name).mkdir(parents=True)
    assert [job.name for job in jobs(tmp_path, entry("source: '[!xz]*'\nto: hf"))] == ["a/hf", "b/hf"]
    found = jobs(tmp_path, entry("source: '**/a'\nname: '{parent}-{stem}'\nto: hf\noutput: '{name}'"))
    assert [job.source for job in found] == [str(tmp_path / "a"), str(tmp_path / "x" / "a")]


def test_a_path_that_looks_like_a_pattern_is_a_path_where_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "bert[1]").mkdir()
    (tmp_path / "bert1").mkdir()
    (job,) = jobs(tmp_path, entry("source: bert[1]\nto: hf"))
    assert job.source == str(tmp_path / "bert[1]")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("m/bert", "bert"),
        ("m/bert/model.safetensors", "bert"),
        ("m/bert.tar.gz", "bert"),
        ("m/bert-v1.5.zip", "bert-v1.5"),
        ("m/bert.bin", "bert"),
        ("m/bert-3.0", "bert-3.0"),
    ],
)
def test_a_job_is_named_after_its_source(tmp_path: Path, source: str, name: str) -> None:
    (job,) = jobs(tmp_path, entry(f"source: {source}\nto: hf"))
    assert job.name == f"{name}/hf"


def test_a_relative_manifest_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, entry("source: a\nto: hf"))
    monkeypatch.chdir(tmp_path)
    (job,) = jobs_of(load_manifest("zoo.yaml"), {})
    assert (job.source, job.target) == ("a", "converted/a/hf")


def test_variables_reach_every_text(tmp_path: Path) -> None:
    text = """version: 1
variables: {root: models, to: hf, force: false}
defaults: {folder: "${root}-out", overwrite: "${force}"}
jobs: [{source: "${root}/a", to: "${to}"}]
"""
    manifest = load_manifest(write(tmp_path, text))
    (job,) = jobs_of(manifest, {"force": "true", "to": "uer"})
    assert (job.source, job.options) == (str(tmp_path / "models" / "a"), Options(to="uer", overwrite=True))
    assert state_folder(manifest, {"root": "x"}) == tmp_path / "x-out"
    with pytest.raises(UsageError, match=r"zoo\.yaml:4: jobs\[0\]\.to: there is no dialect 'her'"):
        jobs_of(manifest, {"to": "her"})
    with pytest.raises(UsageError, match=r"zoo\.yaml:4: jobs\[0\]\.to: there is no dialect '\$\{to\}'"):
        jobs_of(manifest, {"to": "${to}"})  # What is set is taken as it is, and is no dialect.
    with pytest.raises(UsageError, match=r"zoo\.yaml:3: defaults\.overwrite: "):
        jobs_of(manifest, {"force": "perhaps"})


def test_a_matrix_makes_a_job_of_every_combination_under_a_name_of_its_own(tmp_path: Path) -> None:
    text = entry(
        "source: ${size}\nto: hf\ndtype: ${dtype}\nresidue: ${residue}\n"
        "matrix: {size: [s, l], dtype: [float32, float16], residue: [keep, drop]}\n"
        "exclude: [{size: l, dtype: float16}]"
    )
    found = jobs(tmp_path, text)
    assert [job.name for job in found] == [
        "s-float32-keep/hf",
        "s-float32-drop/hf",
        "s-float16-keep/hf",
        "s-float16-drop/hf",
        "l-float32-keep/hf",
        "l-float32-drop/hf",
    ]
    assert [(job.options.dtype, job.options.residue) for job in found[:3]] == [
        ("float32", "keep"),
        ("float32", "drop"),
        ("float16", "keep"),
    ]


# -- errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (entry("source: a\nto: padle"), ":4: jobs[0].to: there is no dialect 'padle'. Did you mean 'paddle'?"),
        (entry("source: a\nto:\n  - hf\n  - padle"), ":6: jobs[0].to[1]: there is no dialect 'padle'."),
        (entry("source: a\nto:\n  hf:\n  padle: {}"), ":6: jobs[0].to.padle: there is no dialect 'padle'."),
        (entry("source: a\nto:\n  hf:\n    dtyp: keep"), ":6: jobs[0].to.hf.dtyp: there is no such key. Did you mean"),
        (entry("source: a\nto: 3"), ":4: jobs[0].to: must be a dialect, a list of dialects, or a mapping"),
        (entry("source: a\nmax-shard-siz: 1GB"), "Did you mean 'max-shard-size'?"),
        (entry("source: a\nmax-shard-size: big"), ":4: jobs[0].max-shard-size: 'big' is no size. Write 5GB"),
        (entry("source: a\ncontainer: safetensor"), "there is no container 'safetensor'. Did you mean 'safetensors'?"),
        (entry("source: a\ncontainer: torch-legacy"), "there is no container 'torch-legacy'"),
        (entry("source: a\nfamily: brt"), "there is no family 'brt'. Did you mean 'bert'?"),
        (
            entry("source: a\nchecks: [party]"),
            ":4: jobs[0].checks[0]: there is no check 'party'. Did you mean 'parity'",
        ),
        (entry("source: a\nchecks: [{gold: x}]"), "jobs[0].checks[0].gold: there is no such key"),
        (entry("source: a\nchecks: [1]"), "must be `weights`, `parity`, or `golden: FILE`"),
        (entry("source: a\nname: 1.5"), ":4: jobs[0].name: must be a text, a whole number or a boolean. Put it in"),
        (entry("source: ''"), ":3: jobs[0].source: string should have at least 1 character"),
        (entry("to: hf"), ":3: jobs[0].source: is missing"),
        (entry("source: a\noverwrite: perhaps"), ":4: jobs[0].overwrite: must be a valid boolean"),
        (entry("source: a\nif: b"), ":4: jobs[0].if: there is no such key"),
        ("version: 2\njobs: [{source: a}]\n", ":1: version: must be 1"),
        ("version: 1\njobs: {a: b}\n", ":2: jobs: must be a valid list"),
        (
            "version: 1\ndefault: {}\njobs: [{source: a}]\n",
            ":2: default: there is no such key. Did you mean 'defaults'",
        ),
        ("version: 3\njobs:\n  - source: a\n    to: padle\n", ":1: version: must be 1 (the first of 2 problems)"),
    ],
)
def test_an_error_of_form_names_file_line_and_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_manifest(write(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path / "zoo.yaml"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (entry("source: a"), ":3: jobs[0]: nothing says what to convert to"),
        (entry("source: a\nto: [hf, hf]"), ":4: jobs[0].to[1]: names 'hf' twice"),
        (entry("source: x*\nto: hf"), ":3: jobs[0].source: 'x*' matches nothing"),
        (entry("source: ftp://a/b\nto: hf"), ":3: jobs[0].source: ftp:// is nowhere that is known here"),
        (entry("source: a\nto: hf\ncontainer: npz"), ":5: jobs[0].container: hf does not read npz"),
        (entry("source: a\nto: hf\nname: ../x"), ":5: jobs[0].name: the name '../x' leads out of its folder"),
        (entry("source: a\nto: hf\nname: '{stm}'"), ":5: jobs[0].name: {stm} stands for nothing. Did you mean 'stem'"),
        (entry("source: a\nto: hf\noutput: '{tp}'"), ":5: jobs[0].output: {tp} stands for nothing"),
        (entry("source: a\nto: hf\ndtype: ${d}"), ":5: jobs[0].dtype: there is no variable 'd'"),
        (entry("source: a\nto: hf\nkeep-names: true"), ":4: jobs[0].to: names a dialect, and keep-names keeps"),
        (entry("source: a\nto: {hf: {keep-names: true}}"), "jobs[0].to.hf.keep-names: a target keeps no names"),
        (entry("source: a\nkeep-names: true"), "keep-names needs a container"),
        (entry("source: a\nkeep-names: true\ncontainer: npz\nchecks: [parity]"), ":6: jobs[0].checks: parity needs"),
        (entry("source: a\nto: hf\nchecks: [weights, weights]"), ":5: jobs[0].checks: names a check twice"),
        (entry("source: a\nto: hf\nmatrix: {d: [float8]}\ndtype: ${d}"), "no element type 'float8'. Did you mean"),
        (
            "version: 1\nvariables: {d: x}\njobs: [{source: a, to: hf, matrix: {d: [y]}}]\n",
            ":3: jobs[0].matrix.d: is a variable of the manifest, too",
        ),
    ],
)
def test_an_error_of_meaning_names_file_line_and_key(tmp_path: Path, text: str, words: str) -> None:
    manifest = load_manifest(write(tmp_path, text))
    with pytest.raises(UsageError) as caught:
        jobs_of(manifest, {})
    assert words in str(caught.value)


def test_what_is_no_yaml_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"zoo\.yaml:1: is no YAML"):
        load_manifest(write(tmp_path, "a: b: c"))


def test_without_pydantic_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "interlingua.convert.batch.manifest_model", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(UsageError, match=r"pip install 'interlingua\[batch\]'"):
        load_manifest(write(tmp_path, entry("source: a\nto: hf")))


TEXTS = [
    "hf",
    "uer",
    "a",
    "a*",
    "${a}",
    "${",
    "{to}",
    "{x}",
    "",
    "..",
    "/",
    "m.bin",
    "npz",
    "float16",
    "weights",
    "1GB",
]
SCALARS = st.none() | st.booleans() | st.integers(-2, 5) | st.sampled_from(TEXTS)
WORDS = st.sampled_from(
    ["hf", "uer", "a", "b", "golden", "dtype", "container", "output", "checks", "keep-names", "name", "to", "matrix"]
)
ANY = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))
SETTINGS = {"to": ANY, "name": SCALARS, "output": SCALARS, "container": SCALARS, "checks": ANY, "keep-names": SCALARS}
TREES = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "jobs": st.lists(
            st.fixed_dictionaries(
                {"source": st.sampled_from(["a", "b", "?", "${a}"])},
                optional={**SETTINGS, "matrix": ANY, "exclude": ANY, "max-shard-size": SCALARS},
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={
        "variables": st.just({"a": "x"}) | ANY,
        "defaults": st.fixed_dictionaries({}, optional={**SETTINGS, "folder": SCALARS}),
    },
)


@given(TREES | ANY)
def test_any_yaml_is_jobs_or_an_error(tmp_path: Path, tree: object) -> None:
    try:
        found = jobs(tmp_path, yaml.safe_dump(tree))
    except InterlinguaError:
        return
    assert len({job.name for job in found}) == len({job.target for job in found}) == len(found) > 0


@given(
    sources=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True),
    targets=st.lists(st.sampled_from(sorted(DIALECTS)), min_size=1, max_size=4, unique=True),
    values=st.lists(st.sampled_from(["keep", "float32", "float16"]), min_size=1, unique=True),
)
def test_there_is_a_job_for_every_source_target_and_value(
    tmp_path: Path, sources: list[str], targets: list[str], values: list[str]
) -> None:
    each = [{"source": name, "to": targets, "matrix": {"d": values}, "dtype": "${d}"} for name in sources]
    found = jobs(tmp_path, yaml.safe_dump({"version": 1, "jobs": each}))
    seen = [(Path(job.source).name, job.options.dtype, job.options.to) for job in found]
    assert seen == [(name, value, to) for name in sources for value in values for to in targets]
