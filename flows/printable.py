"""Text from outside, made fit to be shown: in one line, bounded, without escapes and secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from flows.hrefs import unsign_urls, unsigned_href

#: Characters of a message. The longest of ours names a path of 4096 bytes at worst, most take one line.
LONGEST_MESSAGE = 2000
#: Characters that are looked at: an answer's body may have megabytes.
_LONGEST_READ = 1 << 14
_SHORTEST_SECRET = 8  # a shorter value would be cut out of innocent words
_MASK = "***"

_EQUALS = r"(?:=|%(?:25)*3d)"
_END = r"\s'\"<>"
#: The target of a request, as urllib3 logs it.
_REQUEST_LINE = re.compile(rf"(\b(?:GET|HEAD|PUT|POST|DELETE|OPTIONS)[\s'\",]+/[^{_END}?]*)\?[^{_END}]*")
_NAMES = (
    r"(?:sig|signature|credential|se|st|skoid|sktid|ske|[\w.-]*(?:token|secret|password|passwd|passphrase"
    r"|api[_-]?key|subscription[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key|accountkey))"
)
#: A parameter that stands alone, its equals sign encoded or not.
_PARAMETER = re.compile(rf"(?<![\w.-])({_NAMES}{_EQUALS})[^&{_END}]+", re.IGNORECASE)
#: A field of a JSON or Python text, such as the headers that botocore logs.
_FIELD = re.compile(rf"(['\"]{_NAMES}['\"]\s*:\s*b?['\"])[^'\"]+", re.IGNORECASE)
#: A header as text, in a dictionary or in a tuple; and what follows it in the lines that botocore signs.
_HEADER = re.compile(
    r"(\b(?:(?:Proxy-)?Authorization|Ocp-Apim-Subscription-Key|X-Amz-Security-Token|X-Api-Key|(?:Set-)?Cookie)"
    r"(?:['\"]?\s*[:=]|['\"],)\s*(?:b?['\"])?)[^'\",}\r\n]+"
    r"|(\bBearer\s+)[^\s'\",}]+|(\bSignature:\s+)[0-9a-f]{16,}",
    re.IGNORECASE,
)
#: Ids of AWS keys by their documented prefixes, and Google's access tokens.
_KEY_ID = re.compile(
    r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|AROA|AIDA|AGPA|AIPA|ANPA|ANVA)[A-Z0-9]{8,}\b|\bya29\.[\w.-]+"
)
_LINE_BREAKS = re.compile(r"[\t\r\n][ \t\r\n]*")
#: What isprintable() takes, and terminals show as nothing: Unicode's Default_Ignorable_Code_Point.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class _Secrets:
    """Values that are never shown, read with the first text: who asks for help pays for no settings."""

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[str]] = tuple
        self._values: list[str] | None = None

    def values(self) -> list[str]:
        if self._values is None:
            known = [value for value in self.read() if len(value) >= _SHORTEST_SECRET]
            self._values = sorted(
                {*known, *(quote(value, safe="") for value in known)}, key=len, reverse=True
            )
        return self._values


_secrets = _Secrets()


def hide_values(read: Callable[[], Iterable[str]]) -> None:
    """Keep the values that ``read`` gives out of every text from now on, in place of those before."""
    global _secrets  # noqa: PLW0603 - one process, one set of secrets
    _secrets = _Secrets()
    _secrets.read = read


def make_printable(text: object, longest: int = LONGEST_MESSAGE) -> str:
    r"""Return ``text`` as a terminal, a log and a page may show it.

    It is one line of at most ``longest`` characters, cut in its middle where it is longer: what helps
    stands at the end. URLs lose what may open them, and known forms of credentials become ``***``.
    Whatever is no visible character is spelled out, as ``\x1b``: escapes, controls, marks that turn
    the direction of writing, characters without width.
    """
    shown = str(text)
    if len(shown) > _LONGEST_READ:
        # The last word goes: half of a secret is none that would be recognised.
        shown = f"{shown[:_LONGEST_READ].rpartition(' ')[0]} …"
    shown = _redact(shown)
    shown = _escape(_LINE_BREAKS.sub(" ", shown.strip("\t\r\n")))
    if len(shown) <= longest:
        return shown
    end = longest // 3
    return f"{shown[: longest - end - 3]} … {shown[-end:]}"


def make_lines_printable(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return the lines of ``text``, each as ``make_printable`` makes it."""
    return "\n".join(make_printable(line, longest) for line in text.split("\n"))


def encode_for_terminal(document: Any, indent: int | None = None) -> str:
    """Return ``document`` as JSON of visible ASCII characters alone, which no terminal obeys."""
    return json.dumps(document, indent=indent).replace("\x7f", "\\u007f")


def escape_markdown(text: object) -> str:
    """Return ``text`` printable, and so that Markdown shows it as it is: no HTML, link, image or table."""
    shown = re.sub(r"([\\`*\[\]<>|~!#&$@{}])", r"\\\1", make_printable(text))
    return re.sub(r":(?=//)|(?<=\bwww)(?=\.)", lambda match: f"{match[0]}\\", shown, flags=re.IGNORECASE)


def _redact(text: str) -> str:
    """Return ``text`` without what opens a URL or authorises a request."""
    for value in _secrets.values():
        text = text.replace(value, _MASK)
    text = _REQUEST_LINE.sub(lambda match: unsigned_href(match[0]), unsign_urls(text))
    text = _FIELD.sub(rf"\1{_MASK}", _PARAMETER.sub(rf"\1{_MASK}", text))
    return _KEY_ID.sub(_MASK, _HEADER.sub(lambda match: f"{match[1] or match[2] or match[3]}{_MASK}", text))


def _escape(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() and not _INVISIBLE.match(character)
        else character.encode("unicode_escape").decode()
        for character in text
    )
