"""Templates: text is text, a name that is missing is an error, and functions are those that are handed in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from interlingua.verify.pages import environment
from interlingua.verify.pages.environment import template

jinja2 = pytest.importorskip("jinja2")


@pytest.fixture
def render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Render a template that is made up, with functions and values."""

    def rendered(text: str, functions: dict[str, object] | None = None, **values: object) -> str:
        (tmp_path / "made_up.html").write_text(text, encoding="utf-8")
        monkeypatch.setattr(environment, "files", lambda _: tmp_path)
        return str(template("made_up.html", **(functions or {})).render(**values))

    return rendered


def test_text_is_no_markup(render) -> None:
    assert render("{{ x }}", x="<b>&'\"") == "&lt;b&gt;&amp;&#39;&#34;"


def test_text_moves_no_cursor_and_turns_no_line(render) -> None:
    assert render("{{ x }}", x="a\x1b[31m\u202eb") == r"a\x1b[31m\u202eb"


@pytest.mark.parametrize(
    "text", ["{{ absent }}", "{{ x.absent }}", "{% if absent %}{% endif %}", "{{ absent | length }}"]
)
def test_a_name_that_is_missing_is_an_error_and_never_nothing(render, text: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render(text, x=SimpleNamespace())


def test_functions_are_those_that_are_handed_in(render) -> None:
    assert render("{{ twice(4) }}", {"twice": lambda number: 2 * number}) == "8"


def test_markup_of_the_template_itself_stays(render) -> None:
    text = "{% macro bold(x) %}<b>{{ x }}</b>{% endmacro %}{{ bold('<') }}{{ '\\n' | safe }}|"
    assert render(text) == "<b>&lt;</b>\n|"
