"""Make text from outside safe to show: on one line, bounded, without escapes and secrets."""

from __future__ import annotations

import codecs
import json
import logging
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit


def _spelled(characters: str) -> str:
    """Return a pattern for one of ``characters``, plain or percent-encoded any number of times."""
    codes = "|".join(f"{ord(character):02x}" for character in characters)
    return rf"(?:[{re.escape(characters)}]|%(?:25)*(?:{codes}))"


_COLON, _SLASH, _AT, _EQUALS = (_spelled(characters) for characters in (":", "/\\", "@", "="))
_SCHEME = r"(?<![a-z0-9+.-])(?P<scheme>[a-z][a-z0-9+.-]*)"
#: The beginning of a URL anywhere in a text, with the user that follows it: plain, where browsers accept `https:host`
#: too; percent-encoded, where a slash with one more level of encoding is part of a password; mixed.
_USERS = tuple(
    re.compile(rf"(?P<start>{start})(?P<user>(?:(?!{end}).)*){at}", re.IGNORECASE | re.DOTALL)
    for start, end, at in (
        (rf"(?:{_SCHEME}:[/\\]{{2}}|https?:[/\\]?|^[/\\]{{2}})[/\\]*", r"[/\\]", "@"),
        (rf"{_SCHEME}(?P<code>%(?:25)*)3a(?P=code)2f(?P=code)2f", r"(?P=code)2f|[/\\]", "(?P=code)40"),
        (rf"{_SCHEME}{_COLON}{_SLASH}{{2}}", _SLASH, _AT),
    )
)
#: What remains of a password that contains a slash, in the place of a port.
_NO_PORT = re.compile(r"(?<=://)(?P<host>[^/:@\[]*):(?!\d*(?:/|$))", re.DOTALL)
#: Azure's schemes, which have the container where others have the user.
_CONTAINER_SCHEMES = frozenset({"abfs", "abfss", "wasb", "wasbs"})
_LIKE_URL = re.compile(rf"{_COLON}{_SLASH}{{2}}|^/vsi|^//", re.IGNORECASE)
#: The end of a file name: paths other than URLs may contain `#`.
_FILE_NAME = re.compile(r"#[^=?#]*\.[a-z0-9]{1,5}", re.IGNORECASE)
_ENCODED_QUERY = re.compile(r"%(?:25)*3f", re.IGNORECASE)
#: What starts parameters if a name and an equals sign follow; otherwise it is part of a path.
_PARAMETERS = re.compile(r"&|%(?:25)*(?:23|26)", re.IGNORECASE)
_MATRIX = re.compile(_spelled(";"), re.IGNORECASE)
_EQUALS_SIGN = re.compile(_EQUALS, re.IGNORECASE)
#: Query parameters to keep, in lower case; all others are removed. They are parameters of tilers in public STAC items,
#: such as the Planetary Computer's (`tilejson`, `rendered_preview`), those that identify an object or version (S3,
#: Google, Azure) or a search, and the project of Google's console in our own messages.
ALLOWED_PARAMETERS = frozenset(
    {"collection", "collections", "item", "items", "ids", "assets", "asset", "bidx", "asset_bidx", "nodata"}
    | {"format", "f", "rescale", "expression", "colormap_name", "color_formula", "resampling", "unscale"}
    | {"resampling_method", "reproject", "return_mask", "asset_as_band", "tile_format", "tile_scale", "scale"}
    | {"tilematrixsetid", "minzoom", "maxzoom", "buffer", "max_size", "width", "height", "algorithm", "crs"}
    | {"dst_crs", "coord_crs", "bbox", "datetime", "limit", "versionid", "generation", "snapshot", "project"}
)
#: Values that they may have, fully decoded: at most a plain URL, nothing that could be a query or a user.
_PLAIN = re.compile(r"[\w .,:/|()*+<>!^\[\]{}\"'~-]{0,500}")
#: The fragment of a page that is an application, such as STAC Browser's `#/external/...`.
_PLACE = re.compile(r"/[\w.,:/~-]{0,500}")
#: Levels of percent-encoding of a value: more than any in use.
_MOST_ENCODINGS = 5
_END = r"\s'\"<>"
#: A URL in a text, without punctuation that may follow it.
_URL = re.compile(rf"{_SCHEME}{_COLON}{_SLASH}{{2}}[^{_END}]*[^{_END}:;,.)\]]", re.IGNORECASE)
#: The query of a path without a scheme.
_QUERY = re.compile(
    rf"(?<=[^{_END}?])\?[^{_END}?]*?{_EQUALS}[^{_END}]*|(?<=/vsicurl)\?[^{_END}]*", re.IGNORECASE
)


def unsigned_href(href: str) -> str:
    """Return ``href`` without anything that may give access to it, so that it can be published, logged and shown.

    A query keeps ``ALLOWED_PARAMETERS`` with plain values, spelled as they were. Users, fragments and parameters within
    the path are removed, also from a URL in the path, percent-encoded or not. A text without a scheme keeps a ``#``
    that is part of a file name.
    """
    path, hash_sign, fragment = href.partition("#")
    if hash_sign and not _LIKE_URL.search(href) and _FILE_NAME.fullmatch(hash_sign + fragment):
        path = href
    path, _, query = path.partition("?")
    path = _ENCODED_QUERY.split(path, maxsplit=1)[0]
    path = _cut_at(_PARAMETERS, path)
    path = "/".join(_cut_at(_MATRIX, segment) for segment in path.split("/"))
    for user in _USERS:
        path = user.sub(_drop_user, path)
    path = _drop_passwords_rest(path)
    kept = "&".join(filter(_may_stay, query.split("&")))
    place = f"#{fragment}" if _PLACE.fullmatch(fragment) else ""
    return path + (f"?{kept}" if kept else "") + place


def unsign_urls(text: str) -> str:
    """Return ``text`` with ``unsigned_href`` applied to each URL in it."""
    for pattern in (_URL, _QUERY):
        text = pattern.sub(lambda match: unsigned_href(match[0]), text)
    return text


def _may_stay(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    for _ in range(_MOST_ENCODINGS):
        value = unquote(value)
    return unquote(name).lower() in ALLOWED_PARAMETERS and bool(_PLAIN.fullmatch(value))


def _cut_at(start: re.Pattern[str], text: str) -> str:
    """Return ``text`` up to ``start`` if an equals sign follows somewhere after it."""
    found = start.search(text)
    return text[: found.start()] if found and _EQUALS_SIGN.search(text, found.end()) else text


def _drop_user(match: re.Match[str]) -> str:
    container = match["user"].partition(":")[0]
    if (match["scheme"] or "").lower() in _CONTAINER_SCHEMES and "%" not in container:
        return f"{match['start']}{container}@"
    return match["start"]


def _drop_passwords_rest(path: str) -> str:
    """Remove a user whose password contains a slash, as AWS's secret keys do: ``s3://id:a/b@bucket``."""
    found = _NO_PORT.search(path)
    if found is None:
        return path
    before, rest = path[: found.start()], path[found.end() :]
    _, at, bucket = rest.rpartition("@")
    return before + (bucket if at else found["host"] + rest[rest.find("/") :] * ("/" in rest))


#: Characters of a message. Ours name at worst a path of 4096 bytes, but most take one line.
LONGEST_MESSAGE = 2000
#: Characters that are processed: an answer's body may have megabytes.
_LONGEST_READ = 1 << 14
_SHORTEST_SECRET = 8  # a shorter value would be cut out of innocent words
_MASK = "***"
#: The target of a request, as urllib3 logs it.
_REQUEST_LINE = re.compile(rf"(\b(?:GET|HEAD|PUT|POST|DELETE|OPTIONS)[\s'\",]+/[^{_END}?]*)\?[^{_END}]*")
_NAMES = (
    r"(?:sig|signature|credential|se|st|skoid|sktid|ske|[\w.-]*(?:token|secret|password|passwd|passphrase"
    r"|api[_-]?key|subscription[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key|accountkey))"
)
#: A parameter on its own, with its equals sign encoded or not.
_PARAMETER = re.compile(rf"(?<![\w.-])({_NAMES}{_EQUALS})[^&{_END}]+", re.IGNORECASE)
#: A field in a JSON or Python text, such as the headers that botocore logs.
_FIELD = re.compile(rf"(['\"]{_NAMES}['\"]\s*:\s*b?['\"])[^'\"]+", re.IGNORECASE)
#: A header as text, in a dictionary or in a tuple, and the signature in the lines that botocore signs.
_HEADER = re.compile(
    r"(\b(?:(?:Proxy-)?Authorization|Ocp-Apim-Subscription-Key|X-Amz-Security-Token|X-Api-Key|(?:Set-)?Cookie)"
    r"(?:['\"]?\s*[:=]|['\"],)\s*(?:b?['\"])?)[^'\",}\r\n]+"
    r"|(\bBearer\s+)[^\s'\",}]+|(\bSignature:\s+)[0-9a-f]{16,}",
    re.IGNORECASE,
)
#: Ids of AWS keys, by their documented prefixes, and Google's access tokens.
_KEY_ID = re.compile(
    r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|AROA|AIDA|AGPA|AIPA|ANPA|ANVA)[A-Z0-9]{8,}\b|\bya29\.[\w.-]+"
)
_LINE_BREAKS = re.compile(r"[\t\r\n][ \t\r\n]*")
#: Characters that isprintable() accepts but terminals do not show: Unicode's Default_Ignorable_Code_Point.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


#: Returns the values that must never be shown.
_read_secrets: Callable[[], Iterable[str]] = tuple


@cache
def _list_secrets() -> list[str]:
    """Return the values that must never be shown; read at the first text, so that ``--help`` needs no settings."""
    known = [value for value in _read_secrets() if len(value) >= _SHORTEST_SECRET]
    return sorted({*known, *(quote(value, safe="") for value in known)}, key=len, reverse=True)


def hide_values(read: Callable[[], Iterable[str]]) -> None:
    """Remove the values that ``read`` returns from every text from now on, instead of earlier ones."""
    global _read_secrets  # noqa: PLW0603 - one process, one set of secrets
    _read_secrets = read
    _list_secrets.cache_clear()


def make_printable(text: object, longest: int = LONGEST_MESSAGE) -> str:
    r"""Return ``text`` in a form that is safe to show in a terminal, a log and a page.

    It is one line of at most ``longest`` characters; a longer text is cut in the middle, since the end says what helps.
    URLs lose anything that gives access, and known forms of credentials become ``***``. Invisible characters are
    spelled out, as ``\x1b``: escapes, controls, marks that change the direction of writing, characters without width.
    """
    shown = str(text)
    if len(shown) > _LONGEST_READ:
        # Drop the last word: half a secret would not be recognized.
        shown = f"{shown[:_LONGEST_READ].rpartition(' ')[0]} …"
    shown = _escape(_LINE_BREAKS.sub(" ", _redact(shown).strip("\t\r\n")))
    if len(shown) <= longest:
        return shown
    end = longest // 3
    return f"{shown[: longest - end - 3]} … {shown[-end:]}"


def make_lines_printable(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return ``text`` with ``make_printable`` applied to each line."""
    return "\n".join(make_printable(line, longest) for line in text.split("\n"))


def encode_for_terminal(document: Any, indent: int | None = None) -> str:
    """Return ``document`` as JSON in visible ASCII characters, which cannot control a terminal."""
    return json.dumps(document, indent=indent).replace("\x7f", "\\u007f")


def escape_markdown(text: object) -> str:
    """Return ``text`` printable and escaped, so that Markdown shows it literally: no HTML, link, image or table."""
    shown = re.sub(r"([\\`*\[\]<>|~!#&$@{}])", r"\\\1", make_printable(text))
    return re.sub(r":(?=//)|(?<=\bwww)(?=\.)", lambda match: f"{match[0]}\\", shown, flags=re.IGNORECASE)


def _redact(text: str) -> str:
    """Return ``text`` without anything that gives access to a URL or authorizes a request."""
    for value in _list_secrets():
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


def decode_text(body: bytes) -> str:
    """Return the text of a UTF-8 file, without the byte order mark of Windows and Esri, or raise ``ValueError``."""
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is in UTF-16: save it as UTF-8")
    return body.decode("utf-8-sig")


def read_file_uri(text: str) -> str:
    """Return the path in a ``file:`` URI (RFC 8089), decoded, or raise ``ValueError``; any other text unchanged."""
    scheme, colon, rest = text.partition(":")
    if not colon or scheme.lower() != "file":
        return text
    if rest.startswith("//"):
        host, slash, below = rest[2:].partition("/")
        if host.lower() not in {"", *LOOPBACK_HOSTS}:
            raise ValueError(
                f"names the machine {host!r:.60}: write file:///PATH with three slashes, or a path"
            )
        rest = slash + below
    path = unquote(rest, errors="surrogateescape")
    if not path.strip("/") or "\0" in path:
        raise ValueError("names no path: write file:///PATH, or a path")
    return path


logger = logging.getLogger(__name__)
#: Characters of a line in the log.
LONGEST_LINE = 8000
#: Loggers, including their children, whose records contain URLs, headers or texts from outside.
_LOGGERS = frozenset(
    {"pc_cloudmask", "flows", "prefect", "distributed", "urllib3", "requests", "httpx", "httpcore"}
    | {"boto3", "botocore", "google", "google_auth_httplib2", "googleapiclient", "ee", "odc", "rasterio"}
    | {"pystac", "pystac_client", "planetary_computer", "asyncio", "py"}
)


def keep_signatures_out_of_logs() -> None:
    """Make every record of ``_LOGGERS`` printable when it is created, whichever handler writes it."""
    # Not in a handler: Prefect's own send records to its server, in formats of their own. A second call is harmless.
    build = logging.getLogRecordFactory()
    if getattr(build, "is_printable", False):
        return

    def build_printable(*args: Any, **named: Any) -> logging.LogRecord:
        record = build(*args, **named)
        if record.name.partition(".")[0] in _LOGGERS:
            _make_printable(record)
        return record

    build_printable.is_printable = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(build_printable)


def _make_printable(record: logging.LogRecord) -> None:
    """Rewrite message and traceback of ``record``; logging itself reports a record whose message cannot be built."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        return
    record.msg, record.args = make_lines_printable(message, LONGEST_LINE), None
    if record.exc_info and record.exc_info[0] is not None:
        trace = logging.Formatter().formatException(record.exc_info)
        record.exc_text = make_lines_printable(trace, LONGEST_LINE)  # formatters use this text if it is set


#: This machine's names in URLs.
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(url: str) -> bool:
    """Return True if ``url`` is on this machine; an invalid URL is not."""
    try:
        return urlsplit(url).hostname in LOOPBACK_HOSTS
    except ValueError:
        return False
