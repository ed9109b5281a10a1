"""The codec of every wire type: round trip, tolerance, strictness, headers."""

import json
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.errors import InvalidInput
from streams.messages import WIRE_TYPES, DeadLetter, LineImage, Message, Review, Verdict, decode, encode, headers_of

M = TypeVar("M", bound=Message)
SCALARS: dict[type, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(),
    type(None): st.none(),
}
KINDS = pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if hint in SCALARS:
        return SCALARS[hint]
    arguments = get_args(hint)
    if get_origin(hint) is not tuple:
        return st.one_of(*map(values, arguments)) if arguments else structs(hint)
    if arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=4).map(tuple)
    return st.tuples(*map(values, arguments))


def structs(kind: Any) -> st.SearchStrategy[Any]:
    """Instances of a struct."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: values(hints[name]) for name in kind.__struct_fields__})


messages = st.one_of([structs(kind) for kind in WIRE_TYPES])
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def example(kind: type[M]) -> M:
    """One plain message of a type: the first value of each field."""
    plain = {str: "x", int: 1, float: 0.5, bool: True, bytes: b"x", type(None): None}

    def of(hint: Any) -> Any:
        if hint in plain:
            return plain[hint]
        if get_origin(hint) is tuple:
            return tuple(of(argument) for argument in get_args(hint) if argument is not Ellipsis)
        if get_args(hint):
            return of(get_args(hint)[0])
        return hint(**{name: of(get_type_hints(hint)[name]) for name in hint.__struct_fields__})

    message = of(kind)
    assert isinstance(message, kind)
    return message


@patient
@given(message=messages)
def test_what_was_encoded_decodes_to_the_same(message: Message) -> None:
    assert decode(encode(message), type(message)) == message


@patient
@given(message=messages, name=st.text(min_size=1), value=st.one_of(st.none(), st.text(), st.lists(st.integers())))
def test_unknown_fields_are_tolerated(message: Message, name: str, value: object) -> None:
    body = json.loads(encode(message))
    body.setdefault(f"later.{name}", value)
    assert decode(json.dumps(body).encode(), type(message)) == message


@KINDS
def test_a_field_of_the_wrong_type_is_refused_by_name(kind: type[Message]) -> None:
    body = json.loads(encode(example(kind)))
    for name in kind.__struct_fields__:
        wrong = [] if isinstance(body[name], dict) else {"wrong": 1}
        with pytest.raises(InvalidInput, match=rf"not a {kind.__name__}: .*\$\.{name}"):
            decode(json.dumps({**body, name: wrong}).encode(), kind)


@KINDS
def test_a_field_without_a_default_may_not_be_missing(kind: type[Message]) -> None:
    body = json.loads(encode(example(kind)))
    required = [field.name for field in msgspec.structs.fields(kind) if field.required]
    assert "line" in required
    for name in required:
        with pytest.raises(InvalidInput, match=f"missing required field `{name}`"):
            decode(json.dumps({key: value for key, value in body.items() if key != name}).encode(), kind)


@patient
@given(body=st.binary())
def test_any_other_bytes_are_invalid_input_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a Review"):
        decode(body, Review)


@pytest.mark.parametrize("at", ['"1.5"', "null", "true", "NaN", "[1.5]"])
def test_numbers_are_never_made_of_something_else(at: str) -> None:
    body = encode(example(Review)).replace(b'"at":0.5', f'"at":{at}'.encode())
    with pytest.raises(InvalidInput):
        decode(body, Review)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_refused_by_the_reader(score: float) -> None:
    verdict = msgspec.structs.replace(example(Verdict), score=score)
    with pytest.raises(InvalidInput, match=r"\$\.score"):
        decode(encode(verdict), Verdict)


@patient
@given(message=messages)
def test_headers_are_cloudevents_in_binary_mode(message: Message) -> None:
    headers = dict(headers_of(message, source="/source", at=1.5))
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_type"].decode() == f"driftline.{type(message).__name__}"
    assert headers["ce_id"].decode() == message.identity
    assert headers["ce_subject"].decode() == message.line
    assert (headers["ce_source"], headers["ce_time"]) == (b"/source", b"1.500000")
    assert headers.get("ce_dataref") == (message.key.encode() if isinstance(message, LineImage) else None)


@patient
@given(first=structs(Verdict), second=structs(Verdict))
def test_verdicts_of_an_image_are_the_same_across_a_swap(first: Verdict, second: Verdict) -> None:
    moved = msgspec.structs.replace(second, image_id=first.image_id)
    assert moved.identity == first.identity


@patient
@given(original=st.binary(max_size=300), headers=st.lists(st.tuples(st.text(), st.binary()), max_size=3))
def test_dead_letters_keep_the_original_bytes_and_headers(original: bytes, headers: list[tuple[str, bytes]]) -> None:
    letter = msgspec.structs.replace(example(DeadLetter), original=original, headers=tuple(headers))
    read = decode(encode(letter), DeadLetter)
    assert (read.original, read.headers) == (original, tuple(headers))
