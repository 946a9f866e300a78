"""The site, as MkDocs asks for it.

Rule of this file: MkDocs' events and nothing else; what the pages are is in `book.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import book
from mkdocs.structure.files import File

_texts: dict[str, str] = {}


def on_config(config: Any) -> Any:
    """The order of the pages."""
    config.nav = book.nav()
    return config


def on_files(files: Any, config: Any) -> Any:
    """The pages that are not in `docs/`."""
    elsewhere = {place: path for place, path in book.written().items() if book.DOCS not in path.parents}
    for place, text in {
        **book.made(),
        **{place: path.read_text() for place, path in elsewhere.items()},
    }.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are on the site."""
    place = page.file.src_uri
    source = book.written().get(place)
    text = markdown if source is None else book.on_site(markdown, source, place)
    if not place.startswith("api/"):
        _texts[place] = text
    return text


def on_post_build(config: Any) -> None:
    """The pages as Markdown, their list, and all of them in one file: for language models."""
    site = Path(config.site_dir)
    for place, text in _texts.items():
        (site / place).write_text(text)
    (site / "llms.txt").write_text(book.llms_txt(_texts))
    whole = [_texts[place] for place in book.in_order(_texts)]
    (site / "llms-full.txt").write_text("\n\n".join(whole))
