"""The README's pictures show what the commands print today, and need nothing from elsewhere."""

from __future__ import annotations

import html
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.pictures import COMMANDS, MOST, drawing, on_terminal
from tests.conftest import ROOT

PICTURES = ROOT / "docs/pictures"


def lines_of(svg: str) -> list[str]:
    """Return the text of a picture, line by line, without blanks at the ends."""
    rows: dict[float, dict[float, str]] = {}
    for x, y, text in re.findall(r'<text class="terminal-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        rows.setdefault(float(y), {})[float(x)] = html.unescape(text).replace("\xa0", " ")
    return ["".join(text for _, text in sorted(row.items())).rstrip() for _, row in sorted(rows.items())]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_picture_is_there_and_asks_for_nothing_from_elsewhere(name: str) -> None:
    svg = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "url(h" not in svg
    assert "@import" not in svg
    assert not [node for node in root.iter() if node.tag.endswith(("image", "script", "foreignObject"))]
    assert lines_of(svg)[0] == f"$ {' '.join(COMMANDS[name])}"


def test_the_first_page_shows_them_in_the_order_of_the_commands() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\(docs/pictures/(\w+)\.svg\)", page) == list(COMMANDS)


@pytest.mark.parametrize("name", ["inspect", "convert"])
def test_a_picture_shows_what_the_command_prints_today(
    name: str, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # As some shells and test runners have it.
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / minilm.name).symlink_to(minilm)
    today = lines_of(drawing(COMMANDS[name], on_terminal(COMMANDS[name], tmp_path)))
    stored = lines_of((PICTURES / f"{name}.svg").read_text(encoding="utf-8"))
    assert [untimed(line) for line in today] == [untimed(line) for line in stored], "run make pictures"


def untimed(line: str) -> str:
    """Return a line without the time that the command took."""
    return re.sub(r"in [\d.]+ s \([\d.]+ [MG]B/s\)", "in ... s", line)


def test_a_long_output_is_cut_and_says_so() -> None:
    shown = lines_of(drawing(("program",), "".join(f"line {number}\n" for number in range(MOST + 7))))
    assert shown[0] == "$ program"
    assert shown[MOST] == f"line {MOST - 1}"
    assert shown[MOST + 1 :] == ["... 7 more lines"]


def test_what_a_command_prints_is_text_in_the_picture_and_nothing_else() -> None:
    svg = drawing(("program",), "\x1b[1m<script>alert(1)</script>\x1b[0m & done\n")
    assert ElementTree.fromstring(svg) is not None
    assert "<script" not in svg
    assert lines_of(svg)[1] == "<script>alert(1)</script> & done"


def test_a_command_that_fails_makes_no_picture(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"interlingua inspect nothing exits with 3: .*nothing"):
        on_terminal(("interlingua", "inspect", "nothing"), tmp_path)
