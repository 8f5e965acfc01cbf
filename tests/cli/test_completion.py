"""Shell completion: what shells are told, as they ask for it, and how little is loaded to tell them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from interlingua.cli import main
from interlingua.cli.completion_command import PROGRAMS
from interlingua.formats.registry import CONTAINERS
from interlingua.mappings.registry import DIALECTS, families
from tests.conftest import ROOT
from tests.terminals import environment
from tests.test_architecture import SLOW

START = "import sys; from interlingua.cli import main; main(prog_name='interlingua')"


def completed(line: str, shell: str = "bash") -> list[str]:
    """What a shell is told where the cursor is at the end of a line."""
    words = line.split(" ")
    given = {"_INTERLINGUA_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    found = subprocess.run(
        [sys.executable, "-c", START], env=environment(**given), capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stderr == ""
    return found.stdout.splitlines()


def plain(names: object) -> list[str]:
    return [f"plain,{name}" for name in names]


def test_commands_are_completed() -> None:
    assert completed("interlingua in") == plain(["inspect"])
    assert sorted(completed("interlingua ")) == plain(sorted(main.commands))


def test_dialects_are_completed_with_what_they_are() -> None:
    assert completed("interlingua convert a b --to ") == plain(DIALECTS)
    assert completed("interlingua convert a b --to tf") == plain(["tf1", "tf2"])  # hf-tf begins otherwise.
    assert completed("interlingua parity a b --from-b ke") == plain(["keras-hub", "keras-bert"])
    assert completed("interlingua inspect a --from pad", "zsh") == ["plain", "paddle", DIALECTS["paddle"].title]


def test_families_are_completed() -> None:
    assert completed("interlingua convert a b --family ") == plain(families())
    assert completed("interlingua matrix --family xl") == plain(["xlm-roberta"])


def test_containers_are_those_of_the_dialect_that_is_named() -> None:
    assert completed("interlingua convert a b --to paddle --container ") == plain(DIALECTS["paddle"].containers)
    every = [name for name, container in CONTAINERS.items() if container.writes]
    assert completed("interlingua convert a b --container ") == plain(every)
    assert completed("interlingua convert a b --to nothing --container npz") == plain(["npz"])


def test_element_types_and_options_are_completed() -> None:
    assert completed("interlingua convert a b --dtype fl") == plain(["float32", "float16"])
    assert completed("interlingua convert --keep") == plain(["--keep-names"])


@pytest.mark.parametrize(
    "line", ["inspect ", "convert ", "convert a ", "diff a ", "parity a ", "inspect a --config ", "batch ", "judge "]
)
def test_paths_are_left_to_the_shell(line: str) -> None:
    assert completed(f"interlingua {line}") == ["file,"]


def test_nothing_slow_is_loaded_to_complete() -> None:
    code = (
        "import json, sys\nfrom interlingua.cli import main\n"
        "try: main(prog_name='interlingua')\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    line = "interlingua convert a b --to paddle --container "
    given = {"_INTERLINGUA_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "7"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment(**given), capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.splitlines() == plain(DIALECTS["paddle"].containers)
    assert not SLOW & set(json.loads(found.stderr))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_every_program(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell])
    assert script.exit_code == 0
    for program in PROGRAMS:
        assert f"_{program.replace('-', '_')}_completion" in script.stdout
        assert f"_{program.replace('-', '_').upper()}_COMPLETE={shell}_complete" in script.stdout
        assert program in script.stdout


def test_every_program_of_the_package_is_completed() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    scripts = text.partition("[project.scripts]\n")[2].partition("\n\n")[0]
    assert sorted(PROGRAMS) == sorted(line.partition(" ")[0] for line in scripts.splitlines())


def test_another_shell_is_refused_with_those_there_are() -> None:
    refused = CliRunner().invoke(main, ["completion", "bsh"])
    assert refused.exit_code == 2
    assert "Did you mean 'bash'?" in refused.stderr


def said_by(shell: str, folder: Path, lines: Sequence[str]) -> list[str]:
    """What a shell prints that has read none of its user's files, and finds the program where it looks for commands."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    bare = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    program = folder / "interlingua"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{START}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    found = subprocess.run(
        [shell, *bare, "-c", "\n".join(lines)],
        env=environment(PATH=f"{folder}{os.pathsep}{os.environ['PATH']}", HOME=str(folder)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout.splitlines()


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    lines = (
        "set -e",
        'eval "$(interlingua completion bash)"',
        "complete -p interlingua convert-checkpoint parity-check",
        "COMP_WORDS=(interlingua convert a b --to ke)",
        "COMP_CWORD=5",
        "_interlingua_completion interlingua",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    )
    assert said_by("bash", tmp_path, lines)[-2:] == ["keras-hub", "keras-bert"]


def test_zsh_completes_with_the_script_and_loads_what_that_takes(tmp_path: Path) -> None:
    lines = (
        "set -e",
        'eval "$(interlingua completion zsh)"',
        "print $_comps[interlingua] $_comps[convert-checkpoint] $_comps[parity-check]",
        # What shows the choices runs in a terminal alone: its list of them is looked at instead.
        "_describe() { print -l -- ${(P)3} }",
        "words=(interlingua convert a b --to ke) CURRENT=6",
        "_interlingua_completion",
    )
    assert said_by("zsh", tmp_path, lines) == [
        "_interlingua_completion _convert_checkpoint_completion _parity_check_completion",
        "keras-hub:KerasHub",
        "keras-bert:keras-bert",
    ]


def test_fish_completes_with_the_script(tmp_path: Path) -> None:
    lines = (
        "interlingua completion fish | source",
        'complete -C "interlingua convert a b --to ke"',
        'complete -C "interlingua in"',
        f'complete -C "interlingua inspect {tmp_path}/inter"',
    )
    assert said_by("fish", tmp_path, lines) == [
        "keras-bert\tkeras-bert",
        "keras-hub\tKerasHub",
        f"inspect\t{main.commands['inspect'].short_help}",
        f"{tmp_path}/interlingua",
    ]
