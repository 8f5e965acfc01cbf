"""Every command in every mode: piped, JSON, quiet, with and without colours, on terminals wide and narrow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from interlingua.cli import COMMANDS, main
from tests.models import hf, hf_config, write_hf
from tests.terminals import piped, terminal
from tests.verify.parity.outcomes import healthy

pytest.importorskip("torch")

HEADS = ("pooler",)
STYLE = re.compile(r"\x1b\[[0-9;]*m")

Arguments = Callable[[str], list[str]]


@pytest.fixture
def arguments(tmp_path: Path) -> Arguments:
    """What each command succeeds with; asked twice, it is given another place for its output."""
    source = str(write_hf(tmp_path / "source", hf(HEADS), hf_config(heads=HEADS), 37))
    outputs = iter(range(100))

    def build(command: str) -> list[str]:
        number = next(outputs)
        if command == "convert":
            return [command, source, str(tmp_path / f"out{number}"), "--to", "uer"]
        if command == "batch":
            manifest = tmp_path / f"zoo{number}.yaml"
            job = f"  - {{name: one, source: {source}, to: uer, output: out}}"
            manifest.write_text(f"version: 1\ndefaults: {{folder: zoo{number}}}\njobs:\n{job}\n", encoding="utf-8")
            return [command, str(manifest), "--jobs", "1"]
        if command == "judge":
            result = tmp_path / "result.json"
            result.write_text(json.dumps(healthy().as_dict()), encoding="utf-8")
            return [command, str(result)]
        if command == "parity":
            return [command, source, source, "--own", "--no-text"]
        given = {
            "inspect": [source],
            "diff": [source, source],
            "fingerprint": [source],
            "matrix": [],
            "completion": ["fish"],
        }
        return [command, *given[command]]

    return build


ALL = sorted(str(command.name) for command in COMMANDS)
QUICK = [name for name in ALL if name not in ("parity", "batch")]
"""Commands that start no other process."""


def having(option: str) -> list[str]:
    return sorted(str(c.name) for c in COMMANDS if any(option in parameter.opts for parameter in c.params))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("command", having("--json"))
def test_json_is_one_document_and_nothing_else(command: str, arguments: Arguments) -> None:
    for more in ([], ["--quiet"] if command in having("--quiet") else []):
        found = run(*arguments(command), "--json", *more)
        assert (found.exit_code, found.stderr) == (0, "")
        json.loads(found.stdout)


def test_what_has_results_has_json() -> None:
    assert set(ALL) - set(having("--json")) == {"completion"}


@pytest.mark.parametrize("command", having("--quiet"))
def test_quiet_prints_nothing_on_success(command: str, arguments: Arguments) -> None:
    found = run(*arguments(command), "--quiet")
    assert (found.exit_code, found.output) == (0, "")


def test_what_succeeds_without_printing_can_be_quiet() -> None:
    assert set(having("--quiet")) == {"batch", "convert", "diff", "judge", "parity"}


@pytest.mark.parametrize("command", ALL)
def test_what_is_piped_is_plain(command: str, arguments: Arguments) -> None:
    found = run(*arguments(command))
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout
    assert "\x1b" not in found.stdout


@pytest.mark.parametrize("command", QUICK)
@pytest.mark.parametrize("given", [{"NO_COLOR": "1"}, {"CLICOLOR": "0"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}])
def test_a_terminal_without_colours_gets_no_style(command: str, given: dict[str, str], arguments: Arguments) -> None:
    assert not STYLE.search(terminal(*arguments(command), **given))


@pytest.mark.parametrize("command", QUICK)
def test_a_dumb_terminal_gets_no_escape_at_all(command: str, arguments: Arguments) -> None:
    assert "\x1b" not in terminal(*arguments(command), TERM="dumb")


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_style_can_be_asked_for_in_a_pipe(variable: str, arguments: Arguments) -> None:
    given = arguments("inspect")
    assert STYLE.search(piped(*given, **{variable: "1"}).stdout)
    assert not STYLE.search(piped(*given, **{variable: "0"}).stdout)
    assert not STYLE.search(piped(*given, **{variable: "1", "NO_COLOR": "1"}).stdout)


def test_json_has_no_style_whatever_is_asked_for(arguments: Arguments) -> None:
    json.loads(piped(*arguments("inspect"), "--json", FORCE_COLOR="1").stdout)


@pytest.mark.parametrize("columns", [60, 200])
def test_what_is_long_is_folded_and_never_cut(columns: int, arguments: Arguments) -> None:
    _, source = arguments("inspect")
    text = terminal("inspect", source, columns=columns, NO_COLOR="1")
    digest = json.loads(run("inspect", source, "--json").stdout)["fingerprint"]
    assert digest in re.sub(r"\s", "", text)
    assert max(len(line) for line in text.splitlines()) <= columns


def test_the_names_of_a_plan_are_whole_on_a_narrow_terminal(arguments: Arguments) -> None:
    text = terminal(*arguments("convert"), "--dry-run", columns=60, NO_COLOR="1")
    for name in (
        "encoder.layer.{0…2}.attention.self.query.weight",
        "encoder.transformer.{0…2}.self_attn.linear_layers.0.weight",
    ):
        assert any(line.strip() == name for line in text.splitlines()), text


def test_an_error_is_broken_between_words(tmp_path: Path) -> None:
    text = terminal("inspect", tmp_path, "--from", "nothing-that-is-there", columns=40)
    assert all(len(line) <= 40 for line in text.splitlines())
    one = " ".join(text.split())
    assert one.startswith("interlingua: There is no dialect 'nothing-that-is-there'. There are: hf, hf-tf,")
