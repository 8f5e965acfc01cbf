"""What CI systems are given (an action, workflows, GitLab jobs, hooks), run as far as that goes without their hosts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import interlingua
from benchmarks.families import head_sets, realistic, write_model
from interlingua.mappings.schema import FAMILIES
from tests.transcripts import environment, follow

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("pydantic")
pytest.importorskip("jinja2")

ROOT = Path(__file__).resolve().parent.parent
CI = ROOT / "docs" / "ci"
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
OWN = "OWNER/interlingua@COMMIT"

TEXT = {"type": "string", "minLength": 1}
NAME = "^[_a-zA-Z][a-zA-Z0-9_-]*$"
STEP = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "id": {"type": "string", "pattern": NAME},
        "if": TEXT,
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
        "with": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
        "uses": TEXT,
        "run": TEXT,
        "shell": TEXT,
        "working-directory": TEXT,
        "continue-on-error": {"type": ["boolean", "string"]},
    },
    "oneOf": [{"required": ["run", "shell"]}, {"required": ["uses"]}],
    "dependentSchemas": {"run": {"not": {"required": ["with"]}}},
}
ACTION_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "description", "runs"],
    "properties": {
        "name": TEXT,
        "author": TEXT,
        "description": TEXT,
        "branding": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "icon": TEXT,
                "color": {
                    "enum": ["white", "black", "yellow", "blue", "green", "orange", "red", "purple", "gray-dark"]
                },
            },
        },
        "inputs": {
            "type": "object",
            "propertyNames": {"pattern": NAME},
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["description"],
                "properties": {
                    "description": TEXT,
                    "required": {"type": "boolean"},
                    "default": {"type": "string"},
                    "deprecationMessage": TEXT,
                },
            },
        },
        "outputs": {
            "type": "object",
            "propertyNames": {"pattern": NAME},
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["description", "value"],
                "properties": {"description": TEXT, "value": TEXT},
            },
        },
        "runs": {
            "type": "object",
            "additionalProperties": False,
            "required": ["using", "steps"],
            "properties": {"using": {"const": "composite"}, "steps": {"type": "array", "items": STEP, "minItems": 1}},
        },
    },
}
"""The rules for a composite action of the published JSON Schema of action.yml (SchemaStore's github-action.json)."""


def document(path: Path) -> Any:
    """Return a YAML file; ``on``, which YAML 1.1 reads as true, is spelled again."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in found.items()} if isinstance(found, dict) else found


ACTION = document(ROOT / "action.yml")
SCRIPTS = {step["name"]: step for step in ACTION["runs"]["steps"] if "run" in step}


# -- files


def test_the_action_keeps_to_the_rules_of_its_schema() -> None:
    jsonschema.Draft202012Validator(ACTION_SCHEMA).validate(ACTION)


@pytest.mark.parametrize("path", [ROOT / "action.yml", *sorted(CI.glob("*.yml"))], ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_with_its_tag_beside_it(path: Path) -> None:
    for used in re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        own = used == OWN or used.startswith("./.github/workflows/")
        assert own or re.fullmatch(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used


def test_one_action_has_one_commit_everywhere() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "action.yml", *CI.glob("*.yml")))
    pins: dict[str, set[str]] = {}
    for owner, commit in re.findall(r"uses: ([\w-]+/[\w-]+)\S*@([0-9a-f]{40} # \S+)", text):
        pins.setdefault(owner, set()).add(commit)
    assert {"actions/setup-python", "actions/cache", "actions/checkout", "actions/upload-artifact"} == set(pins)
    assert all(len(commits) == 1 for commits in pins.values())


def test_no_script_has_an_expression_in_it_and_every_expression_names_something() -> None:
    assert set(SCRIPTS) == {"Install interlingua", "Convert and check"}
    assert not any("${{" in step["run"] for step in SCRIPTS.values())
    written = {"exit-code", "junit", "report", "json", "done", "skipped", "failed", "stopped"}
    for found in EXPRESSION.findall((ROOT / "action.yml").read_text(encoding="utf-8")):
        scope, _, name = found.rpartition(".")
        known = {
            "inputs": set(ACTION["inputs"]),
            "github": {"action_path", "run_id", "run_attempt"},
            "runner": {"os"},
            "steps.batch.outputs": written,
        }
        assert name in known[scope], found


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say_of_a_script(name: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(SCRIPTS[name]["run"])
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not there")
    subprocess.run(["shellcheck", "--shell=bash", str(script)], check=True)


def test_the_workflows_hand_on_what_the_next_one_takes() -> None:
    reusable, caller = document(CI / "github-reusable.yml"), document(CI / "github-caller.yml")
    offered = reusable["on"]["workflow_call"]["inputs"]
    (own,) = (step for step in reusable["jobs"]["batch"]["steps"] if step["uses"] == OWN)
    assert set(own["with"]) <= set(ACTION["inputs"])
    assert {name for name, entry in ACTION["inputs"].items() if entry.get("required")} <= set(own["with"])
    text = (CI / "github-reusable.yml").read_text(encoding="utf-8")
    assert {found.partition(".")[2] for found in EXPRESSION.findall(text) if found.startswith("inputs.")} == set(
        offered
    )
    for job in caller["jobs"].values():
        assert job["uses"] == "./.github/workflows/zoo.yml"
        assert set(job["with"]) <= set(offered)
    assert reusable["permissions"] == caller["permissions"] == {"contents": "read"}


# -- the action's scripts


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder with a zoo of two models."""
    folder = tmp_path / "the zoo"
    (folder / "models").mkdir(parents=True)
    for seed, name in enumerate(("good", "bad")):
        write_model(folder / "models" / name, FAMILIES["bert"], ("pooler",), seed, draw=realistic)
    (folder / "zoo.yaml").write_text(
        "version: 1\n"
        "variables: {models: models}\n"
        "defaults: {folder: converted, no-sync: true, to: uer}\n"
        "jobs:\n"
        "  - source: ${models}/good\n"
        "  - source: ${models}/bad\n"
    )
    return folder


def poison(zoo: Path) -> None:
    (zoo / "models" / "bad" / "model.safetensors").write_bytes(b"broken")


class Runner:
    """GitHub's runner as far as a script sees it: its shell, its environment, its files.

    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder = folder
        self.output, self.summary, self.temporary = path / "output", path / "summary", path / "temporary"
        self.path = path
        self.temporary.mkdir()

    def run(self, name: str, **given: str) -> subprocess.CompletedProcess[str]:
        for file in (self.output, self.summary):
            file.write_text("")
        inputs = {key: entry.get("default", "") for key, entry in ACTION["inputs"].items()}
        inputs |= {key.replace("_", "-"): value for key, value in given.items()}
        values = {f"inputs.{key}": value for key, value in inputs.items()} | {"github.action_path": str(ROOT)}
        step = SCRIPTS[name]
        env = {key: EXPRESSION.sub(lambda found: values[found[1]], value) for key, value in step["env"].items()}
        script = self.temporary / "script.sh"
        script.write_text(step["run"])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.folder,
            env=environment() | self.files() | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def files(self) -> dict[str, str]:
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "RUNNER_TEMP": str(self.temporary),
        }

    @property
    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.output.read_text().splitlines())


@pytest.fixture
def runner(zoo: Path, tmp_path: Path) -> Runner:
    (tmp_path / "runner").mkdir()
    return Runner(zoo, tmp_path / "runner")


BATCH, INSTALL = "Convert and check", "Install interlingua"


def test_a_run_that_is_well_leaves_reports_outputs_and_a_summary(runner: Runner, zoo: Path) -> None:
    done = runner.run(BATCH, manifest="zoo.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert runner.outputs == {
        "exit-code": "0",
        "junit": "interlingua-reports/junit.xml",
        "report": "interlingua-reports/index.html",
        "json": "interlingua-reports/batch.json",
        "done": "2",
        "skipped": "0",
        "failed": "0",
        "stopped": "0",
    }
    assert len(list(ElementTree.parse(zoo / runner.outputs["junit"]).iter("testcase"))) == 4
    assert "good" in (zoo / runner.outputs["report"]).read_text()
    assert json.loads((zoo / runner.outputs["json"]).read_text())["ok"] is True
    assert "all is well" in runner.summary.read_text()
    runner.run(BATCH, manifest="zoo.yaml")
    assert (runner.outputs["done"], runner.outputs["skipped"]) == ("0", "2")


def test_a_broken_model_is_an_annotation_a_row_of_the_summary_and_the_exit_code(runner: Runner, zoo: Path) -> None:
    poison(zoo)
    done = runner.run(BATCH, manifest="zoo.yaml")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("::error file=zoo.yaml,line=6,title=bad/uer%3A convert::")
    assert (runner.outputs["exit-code"], runner.outputs["failed"], runner.outputs["done"]) == ("1", "1", "1")
    assert "| bad/uer | convert | " in runner.summary.read_text()
    failed = list(ElementTree.parse(zoo / runner.outputs["junit"]).iter("failure"))
    assert len(failed) == 1


def test_a_manifest_that_cannot_be_read_keeps_its_exit_code_and_says_so(runner: Runner, zoo: Path) -> None:
    (zoo / "zoo.yaml").write_text("version: 1\njobs:\n  - sauce: x\n")
    done = runner.run(BATCH, manifest="zoo.yaml")
    assert done.returncode == 2
    assert "sauce" in done.stderr
    assert runner.outputs["exit-code"] == "2"
    assert "failed" not in runner.outputs
    assert "exit code 2 before its first job" in runner.summary.read_text()


def test_reports_of_an_earlier_run_are_not_taken_for_this_one_s(runner: Runner, zoo: Path) -> None:
    assert runner.run(BATCH, manifest="zoo.yaml").returncode == 0
    (zoo / "zoo.yaml").write_text("version: 1\njobs: []\n")
    assert runner.run(BATCH, manifest="zoo.yaml").returncode == 2
    assert not (zoo / "interlingua-reports" / "junit.xml").exists()


def test_a_plan_has_a_summary_and_no_counts(runner: Runner, zoo: Path) -> None:
    poison(zoo)
    done = runner.run(BATCH, manifest="zoo.yaml", arguments="--dry-run")
    assert done.returncode == 1
    assert "1 of 2 jobs would fail" in done.stderr
    assert "2 jobs, up to" in runner.summary.read_text()
    assert "| bad/uer | " in runner.summary.read_text()
    assert "done" not in runner.outputs  # What the cache keeps is as it was, and is not kept again.
    assert not (zoo / "converted").exists()


HOSTILE = ("$(touch pwned)", "`touch pwned`", '"; touch pwned; "', "' ; touch pwned #", "a b * ~ $HOME \\ é")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_is_passed_is_run_or_expanded(runner: Runner, zoo: Path, text: str) -> None:
    (zoo / "models").rename(zoo / text)
    (zoo / "zoo.yaml").rename(zoo / f"{text}.yaml")
    done = runner.run(
        BATCH,
        manifest=f"{text}.yaml",
        arguments=f"--jobs\n1\n\n--set=models={text}\r\n--no-resume",
        reports=f"reports/{text}",
    )
    assert done.returncode == 0, done.stderr
    assert runner.outputs["done"] == "2"
    assert (zoo / runner.outputs["report"]).is_file()
    assert runner.outputs["report"] == f"reports/{text}/index.html"
    assert [path.name for path in zoo.parent.rglob("pwned")] == []


@pytest.mark.parametrize("manifest", ["--help", "-q", "--"])
def test_a_manifest_is_never_an_option(runner: Runner, manifest: str) -> None:
    done = runner.run(BATCH, manifest=manifest)
    assert done.returncode == 3, done.stderr
    assert done.stderr == f"interlingua: {manifest}: cannot be opened: No such file or directory.\n"


@pytest.mark.parametrize("folder", ["", "two\nexit-code=0", "carriage\rreturn"])
def test_a_folder_of_reports_that_would_forge_outputs_is_refused(runner: Runner, folder: str) -> None:
    done = runner.run(BATCH, manifest="zoo.yaml", reports=folder)
    assert done.returncode == 2
    assert "::error title=interlingua::" in done.stderr
    assert runner.outputs == {}


def test_a_folder_of_reports_may_begin_with_a_dash(runner: Runner, zoo: Path) -> None:
    assert runner.run(BATCH, manifest="zoo.yaml", reports="-p").returncode == 0
    assert (zoo / "-p" / "junit.xml").is_file()


@pytest.mark.parametrize(
    ("version", "extras", "wanted"),
    [
        ("", "batch,parity", f"{ROOT}[batch,parity]"),
        ("0.1.0", "batch", "interlingua[batch]==0.1.0"),
        ("$(touch pwned) --index-url x", "batch", "interlingua[batch]==$(touch pwned) --index-url x"),
        ("installed", "batch", None),
    ],
)
def test_what_is_installed_is_one_argument(
    runner: Runner, zoo: Path, version: str, extras: str, wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What stands in for Python notes how it is called: an installation needs an index.
    stand_in = runner.path / "bin" / "python3"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {runner.path}/called\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    assert runner.run(INSTALL, version=version, extras=extras).returncode == 0
    called = runner.path / "called"
    assert (called.read_text().splitlines()[-1] if called.exists() else None) == wanted
    assert not (zoo / "pwned").exists()


# -- GitLab


def test_gitlab_s_jobs_do_what_their_artifacts_and_caches_say(zoo: Path) -> None:
    found = document(CI / "gitlab-ci.yml")
    jobs = {name: job for name, job in found.items() if name.startswith("zoo-")}
    assert set(jobs) == {"zoo-plan", "zoo-nightly"}
    for job in jobs.values():
        assert found[job["extends"]]["before_script"]
        assert all(set(rule) <= {"if", "changes", "when"} for rule in job["rules"])
    nightly = jobs["zoo-nightly"]
    line = nightly["script"][-1]
    junit = nightly["artifacts"]["reports"]["junit"]
    assert f"--junit {junit}" in line
    assert nightly["artifacts"]["when"] == nightly["cache"]["when"] == "always"
    assert any(junit.startswith(folder) for folder in nightly["artifacts"]["paths"])
    for name, code in (("zoo-plan", 0), ("zoo-nightly", 0)):
        assert shell(jobs[name]["script"], zoo).returncode == code
    assert (zoo / junit).is_file()
    # What is kept from one night to the next is the folder of outputs, with the state in it.
    assert "converted/" in nightly["cache"]["paths"]
    assert (zoo / "converted" / ".interlingua-batch.sqlite3").is_file()
    poison(zoo)
    assert shell(nightly["script"], zoo).returncode == 1
    assert len(list(ElementTree.parse(zoo / junit).iter("failure"))) == 1


def shell(script: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a job's script as GitLab's runner does."""
    command = ["bash", "-eo", "pipefail", "-c", "\n".join(script)]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )


# -- pre-commit


HOOKS = {hook["id"]: hook for hook in document(ROOT / ".pre-commit-hooks.yaml")}


def test_the_hooks_file_is_one_that_pre_commit_reads() -> None:
    clientlib = pytest.importorskip("pre_commit.clientlib")
    read = clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    assert {hook["id"] for hook in read} == set(HOOKS)


def test_what_a_hook_has_installed_is_what_the_package_asks_for() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for hook in HOOKS.values():
        for requirement in hook.get("additional_dependencies", ()):
            assert f'"{requirement}"' in project


@pytest.fixture
def committed(zoo: Path) -> Path:
    """A repository with the zoo in it."""
    pytest.importorskip("pre_commit")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "zoo"]):
        subprocess.run([*git, *words], cwd=zoo, check=True, env=plain_git(zoo), capture_output=True)
    return zoo


def plain_git(folder: Path) -> Mapping[str, str]:
    return environment(
        GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1", PRE_COMMIT_HOME=str(folder.parent / "pre-commit")
    )


def hook(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a hook by pre-commit, with what is installed here in place of what it would install."""
    wanted = {key: value for key, value in HOOKS[name].items() if key != "additional_dependencies"}
    wanted |= {"language": "system"} | ({"args": list(arguments)} if arguments else {})
    (folder / ".pre-commit-config.yaml").write_text(json.dumps({"repos": [{"repo": "local", "hooks": [wanted]}]}))
    env = plain_git(folder)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True, env=env)
    stage = [] if "stages" not in wanted else ["--hook-stage", wanted["stages"][0]]
    command = [sys.executable, "-m", "pre_commit", "run", name, "--all-files", "--verbose", "--color=never", *stage]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


def test_the_hook_for_manifests_reads_them(committed: Path) -> None:
    assert hook(committed, "interlingua-manifest").returncode == 0
    assert hook(committed, "interlingua-manifest", "zoo.yaml", "--set=models=nowhere/*").returncode == 1
    (committed / "zoo.yaml").write_text("version: 1\njobs:\n  - sauce: models/good\n")
    done = hook(committed, "interlingua-manifest")
    assert done.returncode == 1
    assert "zoo.yaml" in done.stdout
    assert "sauce" in done.stdout


def test_the_hook_for_fingerprints_sees_another_model(committed: Path) -> None:
    (committed / "models" / "bad").rename(committed / "models" / "a b $(touch pwned)")
    models = ["models/a b $(touch pwned)", "models/good"]
    command = [sys.executable, "-m", "interlingua", "fingerprint", *models]
    listed = subprocess.run(command, cwd=committed, env=environment(), capture_output=True, text=True, check=True)
    (committed / "FINGERPRINTS").write_text(listed.stdout)
    done = hook(committed, "interlingua-fingerprints")
    assert done.returncode == 0, done.stdout
    shutil.rmtree(committed / "models" / "good")
    write_model(committed / "models" / "good", FAMILIES["bert"], ("pooler",), 7, draw=realistic)
    done = hook(committed, "interlingua-fingerprints")
    assert done.returncode == 1
    assert re.search(r"< [0-9a-f]{64}  models/good\n", done.stdout)
    shutil.rmtree(committed / "models" / "good")
    assert hook(committed, "interlingua-fingerprints").returncode == 1
    assert not list(committed.parent.rglob("pwned"))


def test_the_hook_for_two_checkpoints_compares_them(committed: Path) -> None:
    assert hook(committed, "interlingua-diff", "models/good", "models/good").returncode == 0
    assert hook(committed, "interlingua-diff", "models/good", "models/bad").returncode == 1


def test_the_hook_for_kept_activations_runs_the_model(committed: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("scipy")
    command = [sys.executable, "-m", "interlingua", "parity", "models/good", "--save-activations", "good.act", "-q"]
    subprocess.run(command, cwd=committed, env=environment(), check=True, timeout=300)
    done = hook(committed, "interlingua-golden", "models/bad", "--against", "good.act")
    assert done.returncode == 1
    assert "different" in done.stdout


# -- the page


PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
GOLDEN = "## Golden activations"
FIVE = {
    "bert-base-uncased": ("bert", "hf"),
    "roberta-base": ("roberta", "hf"),
    "electra-small-discriminator": ("electra", "hf"),
    "ernie-3.0-medium-zh": ("ernie", "paddle"),
    "albert-base-v2": ("albert", "tf1"),
}
"""The page's models: their families, and the dialects that they are published in."""


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """A folder with the page's models."""
    folder = tmp_path / "five"
    (folder / "models").mkdir(parents=True)
    for seed, (name, (family, dialect)) in enumerate(FIVE.items()):
        made = folder / "models" / name
        heads = next(head_sets(FAMILIES[family]))
        original = write_model(
            tmp_path / name if dialect != "hf" else made, FAMILIES[family], heads, seed, draw=realistic
        )
        if dialect != "hf":
            interlingua.convert(original, made, to=dialect, residue="drop", sync=False)
    return folder


def test_the_page_s_commands_print_what_it_says(five: Path) -> None:
    assert follow(PAGE.partition(GOLDEN)[0], five) == 13


def test_the_page_s_golden_activations_are_kept_and_compared(five: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("scipy")
    assert follow(PAGE.partition(GOLDEN)[2], five) == 3


def test_the_page_shows_inputs_and_hooks_that_there_are() -> None:
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    action, hooks = blocks[:2]
    assert action[0]["uses"] == OWN
    assert set(action[0]["with"]) <= set(ACTION["inputs"])
    assert {hook["id"] for hook in hooks["repos"][0]["hooks"]} <= set(HOOKS)
    assert all(f"`{name}`" in PAGE for name in HOOKS)


def test_the_first_page_leads_here() -> None:
    assert "(docs/ci.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
