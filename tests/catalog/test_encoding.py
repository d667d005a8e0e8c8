"""Documents that we read can be written again; what cannot is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.catalog.fields import MAX_DOCUMENT_BYTES, decode_document, encode_document
from pc_cloudmask.errors import SourceRefused

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=15,
)
documents = st.dictionaries(st.text(), json_values, max_size=5)


@pytest.mark.slow
@given(documents)
def test_a_document_survives_and_its_bytes_do_too(document: dict[str, Any]) -> None:
    body = encode_document(document)
    assert decode_document(body, "x.json") == document
    assert encode_document(decode_document(body, "x.json")) == body
    assert body.endswith(b"}\n")
    assert b"\n" not in body[:-1]


def test_the_order_of_keys_is_kept() -> None:
    assert encode_document({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"b":1,"a":{"d":2,"c":3}}\n'


REFUSED = {
    "nothing": b"",
    "no JSON": b"<html>",
    "half a document": b'{"a": [1, 2',
    "two documents": b"{} {}",
    "a list": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "a number that no double holds": b'{"a": ' + b"9" * 400 + b"}",
    "bytes that are no UTF-8": b'{"a": "\xff\xfe"}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "nesting that can be read but not written": b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
    "nesting that cannot be read": b'{"a":' * 5000 + b"1" + b"}" * 5000,
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(SourceRefused, match=r"^folder/x\.json: ") as caught:
        decode_document(body, "folder/x.json")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_of_a_repeated_key_the_last_value_counts() -> None:
    assert decode_document(b'{"a": 1, "b": 2, "a": 3}', "x.json") == {"a": 3, "b": 2}


def test_a_document_of_the_largest_size_is_read_and_no_larger() -> None:
    assert decode_document(b'{"a": 1}'.ljust(MAX_DOCUMENT_BYTES), "x.json") == {"a": 1}
    with pytest.raises(SourceRefused, match="67108865 bytes are more than 67108864"):
        decode_document(b'{"a": 1}'.ljust(MAX_DOCUMENT_BYTES + 1), "x.json")


def test_a_name_cannot_break_the_line() -> None:
    with pytest.raises(SourceRefused) as caught:
        decode_document(b"", "x\n\x1b[2J" + "y" * 1000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
