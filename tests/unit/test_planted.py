"""The search for planted secrets finds them however they are written; a search that finds nothing is no test."""

from __future__ import annotations

import base64
import gzip
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.planted import found_in

SECRET = "planted/secret+of this test"
AROUND = st.binary(max_size=40)


@given(AROUND, AROUND)
def test_it_is_found_within_anything_that_is_base64(before: bytes, after: bytes) -> None:
    content = before + SECRET.encode() + after
    assert found_in(base64.b64encode(content), {"it": SECRET}) == {"it"}
    assert found_in(base64.urlsafe_b64encode(content), {"it": SECRET}) == {"it"}
    assert found_in(content.hex().encode(), {"it": SECRET}) == {"it"}
    assert found_in(content, {"it": SECRET}) == {"it"}


@pytest.mark.parametrize(
    "content", [quote(SECRET, safe="").encode(), SECRET.encode("utf-16"), gzip.compress(SECRET.encode(), mtime=0)]
)
def test_it_is_found_in_other_writings(content: bytes) -> None:
    assert found_in(content, {"it": SECRET}) == {"it"}


@given(st.binary(max_size=400))
def test_what_is_not_there_is_not_found(content: bytes) -> None:
    assert found_in(content, {"it": SECRET}) == set()
