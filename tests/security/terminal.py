"""What must never reach a terminal, and how to tell that it did."""

from __future__ import annotations

import unicodedata

#: One of each kind: a title, a clear screen and a link by ESC and by C1, DEL, backspaces, marks of direction,
#: characters without width, other ends of a line, a surrogate, and rich's markup.
ESCAPES = (
    "\x1b]0;owned\x07\x1b[2J\x1b]8;;https://evil.example\x1b\\\x9b2J\x9d0;owned\x9c\x7f\b\b\x00"
    "\u202e\u2066\u200b\u200f\ufeff\u00ad\U000e0041\u2028\u2029\x85\x0b\x0c\r\nFORGED [red]markup[/red]"
)
#: The same in a header, which holds Latin-1 without ends of lines.
HEADER_ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b2J\x7f"


def find_unprintable(text: str) -> set[str]:
    """Return the characters of ``text`` that a terminal may obey or hide, but for ends of lines."""
    return {
        character
        for character in text
        if character != "\n" and (unicodedata.category(character)[0] in "CZ" and character != " ")
    }
