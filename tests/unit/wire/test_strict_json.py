"""Request bodies: what is refused, what is read, and what an edit leaves alone."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import InvalidRequest
from gateway.core.exchange import Operation
from gateway.wire.strict_json import BoundName, parse_head, rewrite

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def refusal(body: bytes, operation: Operation = "chat") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_head(body, operation)
    assert caught.value.status == 400
    return caught.value


def test_head_has_the_fields_that_policies_need() -> None:
    head = parse_head(
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true,"x":1},"max_tokens":5,'
        b'"n":2,"temperature":1,"top_p":0.5,"seed":7,"messages":[]}',
        "chat",
    )
    assert (head.model, head.body_model, head.stream, head.include_usage) == ("m", "m", True, True)
    assert (head.max_tokens, head.n, head.temperature, head.top_p, head.seed) == (5, 2, 1.0, 0.5, 7)


def test_head_takes_null_for_not_said() -> None:
    head = parse_head(
        b'{"model":"m","stream":null,"stream_options":null,"max_tokens":null,"n":null,"temperature":null}', "chat"
    )
    assert (head.stream, head.include_usage, head.max_tokens, head.n, head.temperature) == (False, False, None, 1, None)
    assert parse_head(b'{"model":"m","stream_options":{"include_usage":null}}', "chat").include_usage is False


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b'{"model":"m","max_tokens":5,"max_completion_tokens":9}', 9),
        (b'{"model":"m","max_output_tokens":3}', 3),
        (b'{"model":"m","max_tokens":2147483648}', 2147483648),
    ],
)
def test_every_name_of_the_token_limit_is_read(body: bytes, limit: int) -> None:
    assert parse_head(body, "chat").max_tokens == limit


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  \n",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"5",
        b"model=m",
        b'{"model":"m"} x',
        b'{"model":"m",}',
        b'{"model":"m","x":"\xff"}',
        b'{"model":"m","x":"\xc3"}',
        b'{"model":"m","x":"\xed\xa0\x80"}',
        b'{"model":"m","\xff":1}',
        b"\xef\xbb\xbf" + CHAT,
        CHAT.decode().encode("utf-16"),
        CHAT.decode().encode("utf-16-be"),
        CHAT.decode().encode("utf-32"),
        b'{"model":"m","x":"\\ud800"}',
        b'{"model":"m","x":["\\ud800 and more text behind it"]}',
        b'{"model":"m","x":"\\udc00 and more text behind it"}',
        b'{"model":"m","x":"\\ud800\\u0041 and more text"}',
        b'{"model":"m","\\ud800 as a key of some length":1}',
        b'{"model":"m","x":NaN}',
        b'{"model":"m","temperature":NaN}',
        b'{"model":"m","x":Infinity}',
        b'{"model":"m","x":-Infinity}',
        b'{"model":"m","temperature":1e400}',
        b'{"model":"m","temperature":-1e400}',
        b'{"model":"m","presence_penalty":' + b"9" * 400 + b"}",
        b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":5,"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"model":5,"x":NaN}',
        b'{"model":"m","x":"a\x00b"}',
        b'{"model":"m","x":01}',
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    """F98, F99, F101, F102."""
    assert refusal(body).code == "invalid_json"


def test_an_emoji_cut_by_the_checks_own_pieces_is_valid() -> None:
    """F20, in the request."""
    for pad in range(65536 - 40, 65536 + 4):
        body = b'{"model":"m","x":"' + b"a" * pad + "😀é".encode() + b'"}'
        assert parse_head(body, "chat").model == "m"


def test_paired_surrogates_and_other_scripts_are_valid() -> None:
    head = parse_head('{"model":"modèle-😀","x":"\\ud83d\\ude00 \u2028 \x85 \\u0000"}'.encode(), "chat")
    assert head.model == "modèle-😀"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"x":NaN}', b'{"x":"\xff"}', b'{"x":"\\ud800 x"}', b"\xef\xbb\xbf{}"])
def test_relayed_bodies_are_strict_json_too(body: bytes) -> None:
    """F99, F101, F102."""
    assert refusal(body, "relay").code == "invalid_json"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", b"5"),
        ("model", b'""'),
        ("model", b'"' + b"m" * 257 + b'"'),
        ("model", b'["m"]'),
        ("model", b"null"),
        ("stream", b"1"),
        ("stream", b'"true"'),
        ("stream_options", b"true"),
        ("stream_options", b'{"include_usage":"yes"}'),
        ("max_tokens", b"-1"),
        ("max_tokens", b"0"),
        ("max_tokens", b"true"),
        ("max_tokens", b"1e308"),
        ("max_tokens", b"1.5"),
        ("max_tokens", b'"5"'),
        ("max_tokens", b"9" * 5000),
        ("max_completion_tokens", b"2147483649"),
        ("max_completion_tokens", b"0"),
        ("max_output_tokens", b"{}"),
        ("n", b"0"),
        ("n", b"129"),
        ("n", b"100000"),
        ("n", b"true"),
        ("temperature", b'"hot"'),
        ("temperature", b"true"),
        ("top_p", b"[]"),
        ("frequency_penalty", b'"x"'),
        ("presence_penalty", b"{}"),
        ("seed", b"1.5"),
    ],
)
def test_a_wrong_or_absurd_value_is_refused_by_name(field: str, value: bytes) -> None:
    """F104."""
    members = {"model": b'"m"', field: value}
    body = b'{"x":{"n":[1]},' + b",".join(b'"%s":%s' % (k.encode(), v) for k, v in members.items()) + b"}"
    error = refusal(body)
    assert error.param == field
    assert error.code == "invalid_request_error"
    assert field in error.message
    assert len(error.message) < 250


def test_an_overflowing_number_names_its_field() -> None:
    """F99."""
    error = refusal(b'{"model":"m","top_p":1e999}')
    assert (error.param, error.code) == ("top_p", "invalid_json")
    assert error.message == "Invalid value for 'top_p': 1e999. It must be a number that fits a double."


def test_a_body_as_pythons_json_writes_it_is_read() -> None:
    text = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a, b: c"}], "n": 2})
    head = parse_head(text.encode(), "chat")
    assert (head.model, head.n) == ("m", 2)


def test_a_duplicate_key_as_long_as_the_spaces_of_such_a_body_is_found() -> None:
    """F100: the seven bytes of the first `n` are what four members have in spaces."""
    with pytest.raises(InvalidRequest, match="'n' stands there twice"):
        parse_head(b'{"model":"m","n":10,"a":1,"b":1,"n":20}', "chat")


def test_a_missing_model_is_explained() -> None:
    error = refusal(b'{"messages":[]}')
    assert (error.param, error.code) == ("model", "invalid_request_error")
    assert "model" in error.message


def test_relayed_bodies_need_no_model_and_keep_their_own_grammar() -> None:
    head = parse_head(b'{"n":"many","max_tokens":-1,"x":1}', "relay")
    assert head.model is None
    assert parse_head(b'{"model":"m","stream":true,"n":[]}', "relay").stream is True
    assert refusal(b'{"n":1,"model":5}', "relay").param == "model"
    assert refusal(b'{"stream":"x"}', "relay").param == "stream"


def test_only_old_completions_may_ask_for_no_tokens() -> None:
    assert parse_head(b'{"model":"m","max_tokens":0,"echo":true}', "text_completion").max_tokens == 0


def test_the_model_in_the_path_wins() -> None:
    """F138."""
    head = parse_head(b'{"messages":[]}', "chat", path_model="deployed")
    assert (head.model, head.body_model) == ("deployed", None)
    head = parse_head(CHAT, "chat", path_model="deployed")
    assert (head.model, head.body_model) == ("deployed", "m")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"cheap","model":"dear"}',
        b'{"model":"cheap","messages":[{"content":"x"}],"model":"dear"}',
        b'{"model":"cheap","\\u006dodel":"dear"}',
        b'{"\\u006Dodel":"cheap","model":"dear"}',
        b'{"model":"cheap","mode\\u006c":"dear"}',
        b'{ "model" : "cheap" , "x" : [1, {"model": 2}], "model":"dear"}',
        b'{"\\u006dodel":"cheap","m\\u006fdel":"dear"}',
    ],
)
def test_a_duplicate_model_is_refused(body: bytes) -> None:
    """F100."""
    operations: list[Operation] = ["chat", "relay"]
    for operation in operations:
        error = refusal(body, operation)
        assert error.param == "model"
        assert "duplicate key" in error.message


def test_a_duplicate_of_any_field_that_is_read_is_refused() -> None:
    """F100."""
    assert refusal(b'{"model":"m","max_tokens":1,"max_tokens":null}').param == "max_tokens"
    assert refusal(b'{"model":"m","stream":false,"stream":true}', "relay").param == "stream"
    # The others are the provider's to judge.
    assert parse_head(b'{"model":"m","x":1,"x":2}', "chat").model == "m"
    assert parse_head(b'{"model":"m","n":1,"n":2,"stream":true,"x":"\\u0061"}', "relay").model == "m"


def test_names_that_stand_elsewhere_are_no_duplicates() -> None:
    body = (
        b'{"messages":[{"role":"user","content":"say \\"model\\": x"},{"content":"model"}],'
        b'"tools":[{"parameters":{"properties":{"model":{"type":"string"},"stream":{}}}}],"user":"caf\\u00e9",'
        b'"model":"m","metadata":{"model":"x","n":"\\u006d"},"stream":true}'
    )
    head = parse_head(body, "chat")
    assert (head.model, head.stream) == ("m", True)


def test_too_many_keys_are_refused_only_where_they_must_be_looked_at() -> None:
    """F98."""
    many = b",".join(b'"k%d":0' % index for index in range(20_000))
    assert parse_head(b'{"model":"m",' + many + b"}", "chat").model == "m"
    assert "keys" in refusal(b'{"x":{"model":1} ,"model":"m",' + many + b"}").message


def test_too_much_nesting_to_follow_is_refused() -> None:
    """F98."""
    body = b'{"a":{"model":1},"b":[' + b"[[[]]]," * 300_000 + b'0],"model":"m"}'
    assert refusal(body).code == "invalid_json"


# Editing.


def test_rewrite_changes_the_model_and_nothing_else() -> None:
    body = b'\n{ "messages" : [ 1.0, "\\u00e9" ] ,\t"model" :  "old" , "x":{"y":[]} }\n'
    assert rewrite(body, model="new") == body.replace(b'"old"', b'"new"')


def test_rewrite_encodes_the_model_as_json() -> None:
    assert rewrite(b'{"model":"m"}', model='a"b\\é\n') == '{"model":"a\\"b\\\\é\\n"}'.encode()


def test_rewrite_without_a_change_gives_the_same_object() -> None:
    assert rewrite(CHAT) is CHAT


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"x":{"model":"a"},"model":"b"}', b'{"x":{"model":"a"},"model":"new"}'),
        (b'{"model":"b","x":["model",{"model":"a"}]}', b'{"model":"new","x":["model",{"model":"a"}]}'),
        (b'{"input":"model","model":"b"}', b'{"input":"model","model":"new"}'),
        (b'{"mo\\u0064el":"b","y":1}', b'{"mo\\u0064el":"new","y":1}'),
        (b'{"model":null}', b'{"model":"new"}'),
        (b'{"model" : "b" , "x":{}}', b'{"model" : "new" , "x":{}}'),
        (b'{"a \\"model":"x","model":"y"}', b'{"a \\"model":"x","model":"new"}'),
        (b'{"model":"y","z":{},"a \\"model":"x"}', b'{"model":"new","z":{},"a \\"model":"x"}'),
        (b'{"z":{},"model":"y","a \\"model":"x"}', b'{"z":{},"model":"new","a \\"model":"x"}'),
        (b'{"z":[{"model":"x"}]}', b'{"model":"new","z":[{"model":"x"}]}'),
        (b'{"x":1,"model":"y","z":"}"}', b'{"x":1,"model":"new","z":"}"}'),
        (b'[{"model":"y"}]'.replace(b"[", b'{"x":').replace(b"]", b"}"), b'{"model":"new","x":{"model":"y"}}'),
        (b'{"x":{"model":"a"}}', b'{"model":"new","x":{"model":"a"}}'),
        (b'{"x":"model"}', b'{"model":"new","x":"model"}'),
        (b'{"model":"a\\"}, \\"model","y":"\\"model\\""}', b'{"model":"new","y":"\\"model\\""}'),
        (b" { } ", b' { "model":"new"} '),
        (b"{}", b'{"model":"new"}'),
    ],
)
def test_rewrite_finds_the_top_level_model(body: bytes, result: bytes) -> None:
    assert rewrite(body, model="new") == result


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"model":"m"}', b'{"stream_options":{"include_usage":true},"model":"m"}'),
        (b"{}", b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":null,"a":1}', b'{"stream_options":{"include_usage":true},"a":1}'),
        (b'{"stream_options": {} }', b'{"stream_options": {"include_usage":true} }'),
        (b'{"stream_options":{"x":[1]}}', b'{"stream_options":{"include_usage":true,"x":[1]}}'),
        (
            b'{"stream_options":{"x":1,"include_usage" : false}}',
            b'{"stream_options":{"x":1,"include_usage" : true}}',
        ),
        (b'{"stream_options":{"include_usage":null}}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{"include_usage":true}}', b'{"stream_options":{"include_usage":true}}'),
        (
            b'{"a":{"stream_options":1},"stream_options":{"x":"}"},"b":2}',
            b'{"a":{"stream_options":1},"stream_options":{"include_usage":true,"x":"}"},"b":2}',
        ),
    ],
)
def test_usage_is_asked_for_beside_what_the_client_asked(body: bytes, result: bytes) -> None:
    """F53."""
    assert rewrite(body, request_usage=True) == result


def test_both_edits_at_once() -> None:
    assert rewrite(b'{"x":1}', model="n", request_usage=True) == (
        b'{"model":"n","stream_options":{"include_usage":true},"x":1}'
    )
    assert rewrite(b'{"stream_options":{},"a":0,"model":"m"}', model="n", request_usage=True) == (
        b'{"stream_options":{"include_usage":true},"a":0,"model":"n"}'
    )


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b"{}", b'{"max_tokens":9}'),
        (b'{"model":"m"}', b'{"max_tokens":9,"model":"m"}'),
        (b'{"max_tokens": null ,"a":1}', b'{"max_tokens": 9 ,"a":1}'),
        (b'{"max\\u005ftokens":null}', b'{"max\\u005ftokens":9}'),
        (b'{"x":{"max_tokens":1}}', b'{"max_tokens":9,"x":{"max_tokens":1}}'),
        (b'{"max_output_tokens":null}', b'{"max_tokens":9,"max_output_tokens":null}'),
    ],
)
def test_a_missing_bound_on_tokens_is_set(body: bytes, result: bytes) -> None:
    assert rewrite(body, bound=("max_tokens", 9)) == result


def test_a_bound_is_set_beside_the_other_edits() -> None:
    assert rewrite(b'{"model":"m","x":1}', model="n", request_usage=True, bound=("max_completion_tokens", 9)) == (
        b'{"stream_options":{"include_usage":true},"max_completion_tokens":9,"model":"n","x":1}'
    )


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"])
def test_rewrite_refuses_what_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rewrite(body, model="m")
    assert caught.value.code == "invalid_json"


NAMES = st.sampled_from(["model", "stream_options", "max_tokens", "messages", 'mo"del', "x", "é", "m\\odel", ""])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    body=st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=6),
    model=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
    spaced=st.sampled_from([None, 0, 1]),
    escaped=st.booleans(),
    usage=st.booleans(),
    bound=st.sampled_from([None, "max_tokens", "max_output_tokens"]),
)
def test_a_rewritten_body_means_the_same_but_for_the_edit(
    body: dict[str, Any], model: str, spaced: int | None, escaped: bool, usage: bool, bound: BoundName | None
) -> None:
    text = json.dumps(body, indent=spaced, ensure_ascii=escaped)
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return
    if "\\ud" in text:
        return
    expected = dict(body)
    expected["model"] = model
    if usage:
        options = expected.get("stream_options")
        expected["stream_options"] = {**options} if isinstance(options, dict) else {}
        expected["stream_options"]["include_usage"] = True
    if bound is not None:
        expected[bound] = 7
    edited = rewrite(raw, model=model, request_usage=usage, bound=None if bound is None else (bound, 7))
    assert json.loads(edited) == expected
