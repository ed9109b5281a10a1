"""Names of lines: which are allowed, and that encoding loses nothing and stays one safe path part."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.encoding import check_line_name, decode_name, encode_name
from detectors.errors import InvalidInput

LETTERS = st.characters(categories=["Lu", "Ll", "Lo", "Nd"]).filter(lambda c: unicodedata.is_normalized("NFC", c))
PARTS = st.text(LETTERS | st.sampled_from("._-"), min_size=1, max_size=15).filter(lambda part: part.strip("."))
NAMES = (
    st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(lambda name: unicodedata.is_normalized("NFC", name))
)


@given(NAMES)
def test_a_name_survives_encoding(name: str) -> None:
    assert decode_name(encode_name(name)) == name


@given(NAMES)
def test_an_encoded_name_is_one_safe_path_part(name: str) -> None:
    part = encode_name(name)
    assert "/" not in part
    assert "\0" not in part
    assert not part.startswith(".")
    assert len(part.encode()) <= 255


@given(NAMES, NAMES)
def test_different_names_have_different_parts(one: str, other: str) -> None:
    assert (encode_name(one) == encode_name(other)) == (one == other)


@pytest.mark.parametrize(
    "name", ["tiles", "press-4/door", "Prüfstand.2", "冲压线/门", "लाइन", "линия_3", "a" * 64, ".hidden", "٣"]
)
def test_names_of_any_script_are_allowed(name: str) -> None:
    check_line_name(name)
    assert decode_name(encode_name(name)) == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 65, "/a", "a/", "a//b", "..", "a/../b", ".", "a b", "a\0b", "a\\b", "a%2Fb", "L@3", "a\n", "\u0301a",
     "😀", "e\u0301", "\ud800"],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="line name"):
        check_line_name(name)


def test_the_refusal_of_decomposed_text_names_the_composed_one() -> None:
    with pytest.raises(InvalidInput, match="write it as 'caf\u00e9'"):
        check_line_name("cafe\u0301")


@pytest.mark.parametrize("part", ["a%2fb", "%2Ea%2E", "a%41", "a/b", "%2F", ""])
def test_a_part_that_encoding_never_makes_is_refused(part: str) -> None:
    with pytest.raises(InvalidInput):
        decode_name(part)
