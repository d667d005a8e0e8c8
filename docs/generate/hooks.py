"""What MkDocs does not do by itself: pages from outside ``docs/``, and the reference of commands.

A page of ``docs/`` is written for GitHub, too, where it links files all over the repository. Here the pages among them
(``PAGES``) become pages of the site under their own paths, other files are copied into it, and folders are linked where
the repository is published.
"""

from __future__ import annotations

import posixpath

from commands import describe_commands
from links import (
    REPOSITORY,
    ROOT,
    find_links,
    indent_lists,
    is_relative,
    locate,
    map_links,
    show_code_of_tables,
)
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

#: Pages outside docs/, by their paths in the repository, which are those in the site.
PAGES = [
    "deploy/README.md",
    "deploy/costs.md",
    "stac_ext/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
#: The page whose text is the application's own help.
COMMANDS = "commands.md"
_LISTING = "<!-- commands -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside ``docs/`` and the files that any page links."""
    for path in PAGES:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for file in list(files.documentation_pages()):
        page = _get_path(file.src_uri)
        for target in filter(is_relative, find_links(file.content_string)):
            path = locate(page, target)
            if (ROOT / path).is_file() and files.get_file_from_path(_get_uri(path)) is None:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: object) -> str:
    """Return the page's text with links as they hold in the site."""
    here = page.file.src_uri

    def convert(target: str) -> str:
        if not is_relative(target):
            return target
        path, (_, hash_, anchor) = locate(_get_path(here), target), target.partition("#")
        if (ROOT / path).is_dir():
            index = f"{_get_uri(path)}/README.md"
            if files.get_file_from_path(index) is None:
                return f"{REPOSITORY}/tree/main/{path}"
            path = f"{path}/README.md"
        return posixpath.relpath(_get_uri(path), posixpath.dirname(here) or ".") + hash_ + anchor

    text = indent_lists(show_code_of_tables(map_links(markdown, convert)))
    return text.replace(_LISTING, describe_commands()) if here == COMMANDS else text


def _get_path(uri: str) -> str:
    """Return the path in the repository of what is ``uri`` among the site's sources."""
    return uri if (ROOT / uri).is_file() else f"docs/{uri}"


def _get_uri(path: str) -> str:
    """Return what ``path`` of the repository is among the site's sources; the README's place is taken by the index."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")
