"""Following a page fails where the page is wrong."""

from __future__ import annotations

import importlib.util
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.transcripts import absent, blocks, follow

DOCS = Path(__file__).resolve().parent.parent / "docs"


def page(*lines: str, language: str = "console") -> str:
    return "\n".join(["# A page", "", f"```{language}", *lines, "```", ""])


def test_a_page_whose_commands_print_what_it_says_is_followed(tmp_path: Path) -> None:
    assert (
        follow(page("$ echo one; echo two", "two", "$ ls missing", "ls: … 'missing': …", "$ echo $?", "2"), tmp_path)
        == 3
    )


@pytest.mark.parametrize(
    "lines",
    [
        ("$ echo one", "two"),
        ("$ echo one; echo two", "two", "one"),
        ("$ echo one", "one", "one"),
        ("$ false",),
        ("$ true", "$ echo $?", "1"),
    ],
)
def test_a_page_that_shows_something_else_is_refused(lines: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        follow(page(*lines), tmp_path)


def test_a_manifest_is_written_under_its_name(tmp_path: Path) -> None:
    follow(page("version: 1", language="yaml zoo.yaml") + page("$ cat zoo.yaml", "version: 1"), tmp_path)
    assert (tmp_path / "zoo.yaml").read_text() == "version: 1\n"


def test_an_ellipsis_stands_for_anything_on_its_line_and_for_no_line() -> None:
    assert absent(["a … d"], ["a b c d"]) is None
    assert absent(["a … d"], ["a d"]) is None
    assert absent(["a … d"], ["a", "d"]) == "a … d"
    assert absent(["a.c"], ["abc"]) == "a.c"


def test_a_block_within_a_list_loses_its_indentation() -> None:
    assert list(blocks("- entry\n\n  ```text\n  a\n    b\n  ```\n")) == [("text", "", "a\n  b\n")]


# -- what the site makes of the same pages


@pytest.fixture(scope="module")
def hook() -> dict[str, Callable[..., str]]:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed")
    return runpy.run_path(str(DOCS / "site_links.py"))


def test_a_list_s_entries_are_indented_by_four_columns(hook: dict[str, Callable[..., str]]) -> None:
    written = "- one\n\n  ```text\n  a\n    b\n  ```\n- two\n  more\n\n1. first\n   of all\n\nafter\n  this\n"
    wanted = (
        "- one\n\n    ```text\n    a\n      b\n    ```\n\n- two\n    more\n\n1. first\n    of all\n\nafter\n  this\n"
    )
    assert hook["lists"](written) == wanted
    assert hook["lists"]("```text\n- a\n  b\n```\n") == "```text\n- a\n  b\n```\n"


def test_links_lead_to_the_same_files_on_the_site(hook: dict[str, Callable[..., str]]) -> None:
    links = hook["links"]
    assert links("[a](../SECURITY.md#b)", "design.md") == "[a](project/security.md#b)"
    assert links("[a](../../SECURITY.md)", "tutorials/x.md") == "[a](../project/security.md)"
    assert links("[a](docs/parity.md)", "project/readme.md") == "[a](../parity.md)"
    assert links("[a](docs/dialects)", "project/readme.md") == "[a](../dialects/index.md)"
    assert links("[a](https://b/c) [d](#e)", "design.md") == "[a](https://b/c) [d](#e)"


def test_a_bar_in_a_table_s_code_is_one_on_the_site(hook: dict[str, Callable[..., str]]) -> None:
    assert hook["bars"](r"| `[a\|<b>]` | c |") == "| <code>[a&#124;&lt;b&gt;]</code> | c |"
    assert hook["bars"](r"`a\|b`") == r"`a\|b`"
