"""Hrefs without what opens them: user names, passwords, queries, fragments, parameters of paths."""

from __future__ import annotations

import re
from urllib.parse import unquote


def _spelled(characters: str) -> str:
    """A pattern of one of ``characters``, as it is or percent-encoded, however many times over."""
    codes = "|".join(f"{ord(character):02x}" for character in characters)
    return rf"(?:[{re.escape(characters)}]|%(?:25)*(?:{codes}))"


_COLON, _SLASH, _AT, _EQUALS = (_spelled(characters) for characters in (":", "/\\", "@", "="))
_SCHEME = r"(?<![a-z0-9+.-])(?P<scheme>[a-z][a-z0-9+.-]*)"
#: A URL's beginning, wherever it stands, with the user that follows it: as it is, for which browsers take
#: `https:host` too; percent-encoded, where a slash that is encoded once more is part of a password; mixed.
_USERS = tuple(
    re.compile(rf"(?P<start>{start})(?P<user>(?:(?!{end}).)*){at}", re.IGNORECASE | re.DOTALL)
    for start, end, at in (
        (rf"(?:{_SCHEME}:[/\\]{{2}}|https?:[/\\]?|^[/\\]{{2}})[/\\]*", r"[/\\]", "@"),
        (rf"{_SCHEME}(?P<code>%(?:25)*)3a(?P=code)2f(?P=code)2f", r"(?P=code)2f|[/\\]", "(?P=code)40"),
        (rf"{_SCHEME}{_COLON}{_SLASH}{{2}}", _SLASH, _AT),
    )
)
#: What a password with a slash in it leaves where a port is expected.
_NO_PORT = re.compile(r"(?<=://)(?P<host>[^/:@\[]*):(?!\d*(?:/|$))", re.DOTALL)
#: Schemes of Azure that name the container where others have the user.
_CONTAINER_SCHEMES = frozenset({"abfs", "abfss", "wasb", "wasbs"})
_LIKE_URL = re.compile(rf"{_COLON}{_SLASH}{{2}}|^/vsi|^//", re.IGNORECASE)
#: The end of a file's name: what is no URL may have `#` in its path.
_FILE_NAME = re.compile(r"#[^=?#]*\.[a-z0-9]{1,5}", re.IGNORECASE)
_ENCODED_QUERY = re.compile(r"%(?:25)*3f", re.IGNORECASE)
#: What begins parameters where a name and an equals sign follow; nothing but a part of a path else.
_PARAMETERS = re.compile(r"&|%(?:25)*(?:23|26)", re.IGNORECASE)
_MATRIX = re.compile(_spelled(";"), re.IGNORECASE)
_EQUALS_SIGN = re.compile(_EQUALS, re.IGNORECASE)


#: Query parameters that stay, in lower case; all others go. They are what public STAC items ask of tilers
#: such as the Planetary Computer's (`tilejson`, `rendered_preview`), which object or version is meant (S3,
#: Google, Azure), what is searched for, and the project of Google's console that our own messages name.
ALLOWED_PARAMETERS = frozenset(
    {"collection", "collections", "item", "items", "ids", "assets", "asset", "bidx", "asset_bidx", "nodata"}
    | {"format", "f", "rescale", "expression", "colormap_name", "color_formula", "resampling", "unscale"}
    | {"resampling_method", "reproject", "return_mask", "asset_as_band", "tile_format", "tile_scale", "scale"}
    | {"tilematrixsetid", "minzoom", "maxzoom", "buffer", "max_size", "width", "height", "algorithm", "crs"}
    | {"dst_crs", "coord_crs", "bbox", "datetime", "limit", "versionid", "generation", "snapshot", "project"}
)
#: What stands in their values, fully decoded: a plain URL at most, nothing that could be a query or a user.
_PLAIN = re.compile(r"[\w .,:/|()*+<>!^\[\]{}\"'~-]{0,500}")
#: The place within a page that is an application, such as STAC Browser's `#/external/...`.
_PLACE = re.compile(r"/[\w.,:/~-]{0,500}")
_MOST_ENCODINGS = 5

_END = r"\s'\"<>"
#: A URL in a text, without the punctuation that may follow it.
_URL = re.compile(
    rf"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*{_COLON}{_SLASH}{{2}}[^{_END}]*[^{_END}:;,.)\]]", re.IGNORECASE
)
#: The query of a path without a scheme.
_QUERY = re.compile(
    rf"(?<=[^{_END}?])\?[^{_END}?]*?{_EQUALS}[^{_END}]*|(?<=/vsicurl)\?[^{_END}]*", re.IGNORECASE
)


def unsigned_href(href: str) -> str:
    """Return ``href`` without anything that may open it: what may be published, logged and shown.

    A query keeps ``ALLOWED_PARAMETERS`` with plain values, spelled as they were. Users go, and so do
    fragments and parameters within the path, also of a URL that stands in the path, percent-encoded or
    not. What has no scheme keeps a ``#`` that is part of a file's name.
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
    """Return ``text``, in which URLs may stand, with each as ``unsigned_href`` makes it."""
    for pattern in (_URL, _QUERY):
        text = pattern.sub(lambda match: unsigned_href(match[0]), text)
    return text


def _may_stay(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return unquote(name).lower() in ALLOWED_PARAMETERS and bool(_PLAIN.fullmatch(_decode(value)))


def _decode(value: str) -> str:
    """Return ``value`` with nothing percent-encoded any more, unless it is so more often than anyone does."""
    for _ in range(_MOST_ENCODINGS):
        value = unquote(value)
    return value


def _cut_at(start: re.Pattern[str], text: str) -> str:
    """Return ``text`` up to ``start`` if an equals sign follows it somewhere."""
    found = start.search(text)
    return text[: found.start()] if found and _EQUALS_SIGN.search(text, found.end()) else text


def _drop_user(match: re.Match[str]) -> str:
    container = match["user"].partition(":")[0]
    if (match["scheme"] or "").lower() in _CONTAINER_SCHEMES and "%" not in container:
        return f"{match['start']}{container}@"
    return match["start"]


def _drop_passwords_rest(path: str) -> str:
    """Drop a user whose password holds a slash, as secret keys of AWS do: ``s3://id:a/b@bucket``."""
    found = _NO_PORT.search(path)
    if found is None:
        return path
    before, rest = path[: found.start()], path[found.end() :]
    _, at, bucket = rest.rpartition("@")
    return before + (bucket if at else found["host"] + rest[rest.find("/") :] * ("/" in rest))
