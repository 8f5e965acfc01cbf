"""The page of a parity check: complete by itself, harmless whatever a file's names say, and real in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings

from interlingua.errors import OutputError, UsageError
from interlingua.verify.parity.outcome import Outcome, Tokens, WeightsGate
from tests.verify.parity.outcomes import ALL, ANY, by_convention, crashed, different, healthy, hostile, non_finite

pytest.importorskip("jinja2")
from interlingua.verify.pages.page import MOST_DIFFERENCES, page, write_page
from interlingua.verify.pages.reading import comparisons

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ACTIVE = {"script", "img", "iframe", "object", "embed", "link", "base", "form", "video", "audio", "image", "use"}


class Elements(HTMLParser):
    """The elements of a page, its attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.classes.update((dict(attrs).get("class") or "").split())

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def browse(path: Path, folder: Path, *options: str) -> str:
    """Open a page in headless Chromium and return what that prints."""
    if BROWSER is None:
        pytest.skip("no chromium or google-chrome is on the PATH")
    profile = f"--user-data-dir={folder / 'profile'}"
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
    command = [BROWSER, *quiet, profile, *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def assert_harmless(elements: Elements) -> None:
    assert not ACTIVE & set(elements.tags)
    assert not [name for name in elements.attributes if name in ("src", "href", "srcset") or name.startswith("on")]


@pytest.mark.parametrize("kind", ALL)
def test_a_page_has_the_verdict_and_nothing_that_is_fetched_or_run(kind: str) -> None:
    text = page(ALL[kind]())
    elements = Elements(text)
    assert ALL[kind]().verdict in elements.text
    assert_harmless(elements)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def points(outcome: Outcome) -> int:
    """Return the points in a page's charts, its legend's left out."""
    charts = page(outcome).partition('<ul class="key">')[0]
    return Elements(charts).classes["point"]


@pytest.mark.parametrize("kind", ALL)
def test_there_are_as_many_points_as_gaps(kind: str) -> None:
    outcome = ALL[kind]()
    assert points(outcome) == sum(map(len, comparisons(outcome).values()))


@given(ANY)
@settings(max_examples=20)
def test_any_outcome_makes_a_harmless_page_with_a_point_for_each_gap(outcome: Outcome) -> None:
    assert_harmless(Elements(page(outcome)))
    assert points(outcome) == sum(map(len, comparisons(outcome).values()))


def test_points_beyond_noise_look_otherwise_than_those_expected_by_convention() -> None:
    def kinds(outcome: Outcome) -> Counter[str]:
        return Elements(page(outcome).partition('<ul class="key">')[0]).classes

    assert kinds(different())["beyond"] == 12
    assert kinds(by_convention())["expected"] == 20
    assert kinds(healthy())["within"] == 60
    assert kinds(non_finite())["lost"] == 28


def test_sides_figures_causes_and_shares_are_on_the_page() -> None:
    text = Elements(page(different())).text
    for words in (
        "B's is A's transposed",
        "101 4586 3062 102",
        "147072 of 147456",
        "eager",
        "layer_norm_eps",
        "20181011",
    ):
        assert words in text
    assert "98.3%" in Elements(page(by_convention())).text
    assert "signal SIGSEGV" in Elements(page(crashed())).text


def test_a_configuration_that_differs_is_marked_in_words() -> None:
    row = re.search(r"<tr([^>]*)><th>layer_norm</th>.*?</tr>", page(by_convention()), re.DOTALL)
    assert row is not None
    assert "differs" in row.group(1)
    assert ">differs<" in row.group()
    assert ">differs<" not in page(healthy())


def section(text: str, name: str) -> str:
    """Return a section of a page."""
    return text.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def cells(text: str, name: str) -> list[str]:
    """Return the cells of the only line of a table that begins with a name."""
    (row,) = re.findall(rf"<tr[^>]*><th>{name}</th>(.*?)</tr>", text, re.DOTALL)
    return [Elements(cell).text for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]


@pytest.mark.parametrize(
    ("kind", "style", "sign"),
    [
        ("healthy", "same", "✓"),
        ("by convention", "convention", "≈"),
        ("different", "different", "✗"),
        ("crashed", "different", "✗"),
    ],
)
def test_a_verdict_looks_as_good_as_it_is(kind: str, style: str, sign: str) -> None:
    header = page(ALL[kind]()).partition('<header class="verdict ')[2].partition("</header>")[0]
    assert header.startswith(f'{style}"')
    assert sign in header


def test_each_side_stands_in_its_own_column() -> None:
    text = page(by_convention())
    assert cells(text, "layer_norm")[:2] == ["biased, inside", "unbiased, outside"]
    assert cells(text, "written by")[:2] == ["somebody else", "this project"]
    assert cells(text, "dialect") == ["hf", "uer", ""]
    outcome = healthy()
    other = replace(
        outcome.b,
        family="ernie",
        settings={**outcome.a.settings, "threads": "7"},
        config={**outcome.a.config, "num_hidden_layers": 0},
    )
    text = page(replace(outcome, b=other))
    assert cells(text, "threads") == ["2", "7", "differs"]
    assert cells(text, "family") == ["bert", "ernie", "differs"]
    assert cells(text, "num_hidden_layers") == ["6", "0", "differs"]
    assert cells(text, "labels") == ["[]", "[]", ""]
    died = cells(page(crashed()), "failure")
    assert died[0] == "none"
    assert died[1] == crashed().b.failure
    assert died[2] == "differs"


def test_what_is_beyond_noise_is_shown_first_and_in_more_detail() -> None:
    text = section(page(different()), "elements")
    found = [(part.partition("</h3>")[0], part.count("<tr>") - 1) for part in text.split("<h3>")[1:]]
    assert found == [("A against B", 10), ("A against its oracle", 3), ("B against its oracle", 3)]


def test_there_are_maps_of_the_agreement_and_of_all_that_is_beyond_noise() -> None:
    def shown(outcome: Outcome) -> list[str]:
        return re.findall("<h3>(.*?)</h3>", section(page(outcome), "positions"))

    assert shown(healthy()) == ["A against B"]
    assert shown(non_finite()) == ["A against B", "B against its oracle"]
    assert shown(crashed()) == ["A against its oracle"]


@pytest.mark.parametrize(("more", "rest"), [(0, None), (3, "and 3 more")])
def test_of_very_many_differences_some_are_listed_and_the_others_counted(more: int, rest: str | None) -> None:
    number = MOST_DIFFERENCES + more
    gate = WeightsGate(number, differences=tuple((f"tensor.{each}", "values", "") for each in range(number)))
    tokens = Tokens(number, tuple((f"sentence {each}", (1,), (2,)) for each in range(number)))
    text = page(replace(different(), weights=gate, tokens=tokens))
    for name in ("weights", "tokens"):
        found = section(text, name)
        assert found.count("<tr>") == 1 + MOST_DIFFERENCES
        assert re.findall("and [0-9]+ more", found) == ([rest] if rest else [])


def test_names_are_text_and_never_markup_nor_templates() -> None:
    text = page(hostile())
    assert_harmless(Elements(text))
    assert "{{ 7 * 7 }}" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_page_replaces_the_one_before_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_page(healthy(), path)
    assert path.read_text(encoding="utf-8") == page(healthy())
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "taken", tmp_path / "absent" / "report.html"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_page(healthy(), path)
    assert [found.name for found in tmp_path.iterdir()] == ["taken"]


def test_without_jinja2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"interlingua\[parity\]"):
        page(healthy())


@pytest.mark.parametrize("kind", ["different", "hostile"])
def test_a_browser_shows_the_verdict_and_finds_no_script(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(ALL[kind](), path)
    elements = Elements(browse(path, tmp_path, "--dump-dom"))
    assert_harmless(elements)
    assert ALL[kind]().verdict in elements.text
    assert elements.classes["point"] > 0


def test_a_browser_prints_it_on_pages(tmp_path: Path) -> None:
    path, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    write_page(different(), path)
    browse(path, tmp_path, f"--print-to-pdf={printed}")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) <= 12
