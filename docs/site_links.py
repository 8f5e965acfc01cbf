"""A hook of MkDocs: pages are written for the repository's own tree, and read on the site just as well.

A link from a page may lead out of this folder (``../SECURITY.md``), where a site has nothing: such files are brought
into it under ``project/``. And the two take different Markdown. CommonMark, which code hosts render, counts the
content of a list's entry from its marker, where Python-Markdown wants four columns; it takes any words after a
fence's language, where that wants attributes; and it has an escaped bar in a table's code for a bar.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

BROUGHT = ("*.md", "action.yml", "constraints.txt", "LICENSE")
"""Files of the repository's root that pages link to."""

LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)#\s]*)")
MARKER = re.compile(r"(- |\d+\. )")
FENCE = re.compile(r"```")
FILE = re.compile(r"^( *```\w+) ([\w.-]+)$", re.MULTILINE)
CODE_WITH_BAR = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Bring the root's files into the site."""
    for pattern in BROUGHT:
        for path in sorted(ROOT.glob(pattern)):
            place = place_of(path.name)
            files.append(File.generated(config, place, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Return a page's text with links and lists as the site wants them."""
    return lists(bars(FILE.sub(r'\1 title="\2"', links(markdown, page.file.src_uri))))


def links(markdown: str, page: str) -> str:
    """Return a text with its relative links changed from the repository's tree to the site's.

    Args:
        markdown: the text.
        page: its path on the site.
    """
    folder = posixpath.dirname(in_repository(page))

    def moved(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[2]))
        return found[1] + posixpath.relpath(place_of(target), posixpath.dirname(page) or ".")

    return LINK.sub(moved, markdown)


def place_of(path: str) -> str:
    """Return the place on the site of a path in the repository; a folder is shown by its index, or its first file."""
    if not path.startswith("docs/"):
        return f"project/{path.lower()}"
    if (ROOT / path).is_dir():
        names = sorted(entry.name for entry in (ROOT / path).iterdir() if not entry.name.startswith("_"))
        path = f"{path}/{'index.md' if 'index.md' in names else names[0]}"
    return path.removeprefix("docs/")


def in_repository(place: str) -> str:
    """Return the path in the repository of a page of the site."""
    if not place.startswith("project/"):
        return f"docs/{place}"
    name = place.removeprefix("project/")
    return next(path.name for path in ROOT.iterdir() if path.name.lower() == name)


def bars(markdown: str) -> str:
    """Return a text in which a bar in a table's code is written as HTML has it."""

    def spelled(found: re.Match[str]) -> str:
        return f"<code>{html.escape(found[1]).replace(chr(92) + '|', '&#124;')}</code>"

    lines = (CODE_WITH_BAR.sub(spelled, line) if line.startswith("|") else line for line in markdown.split("\n"))
    return "\n".join(lines)


def lists(markdown: str) -> str:
    """Return a text in which what belongs to a list's entry is indented by four columns."""
    lines: list[str] = []
    width, fenced = 0, False
    for line in markdown.split("\n"):
        marker = MARKER.match(line)
        inside = width and line.startswith(" " * width)
        if marker and not fenced:
            if width and lines[-1].startswith("    "):
                lines.append("")  # An entry that ends with a paragraph of its own.
            width = marker.end()
        elif inside:
            line = f"    {line[width:]}"
        elif line.strip() and not fenced and lines and not lines[-1].strip():
            width = 0  # A line at the margin after an empty one ends the list.
        if FENCE.match(line.strip()):
            fenced = not fenced
        lines.append(line)
    return "\n".join(lines)
