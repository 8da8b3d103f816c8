"""Request bodies: the few fields that policies need, read strictly, and the few that change, changed in place.

How it works. One typed msgspec decode reads the fields in `_Body` and makes no object for anything
else. It already refuses bad grammar, NaN, unpaired surrogates and endless nesting, even in values that
it skips; what it lets pass in skipped strings is invalid UTF-8, and it takes the last of duplicate
keys where another parser takes the first. So both are checked here: the bytes as a whole, and the
names that we read with one regular expression over the body. Only a body in which such a name shows
twice, or is written with escapes, pays for the exact scanner (`json_members.top_level`), which serves the editing too.
"""

import codecs
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, UnsetType

from gateway.core.errors import InvalidRequest
from gateway.core.exchange import Operation, RequestHead
from gateway.wire.json_members import Edit, Member, apply_edits, insertion, top_level

_Model = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Choices = Annotated[int, msgspec.Meta(ge=1, le=128)]

BoundName = Literal["max_tokens", "max_completion_tokens", "max_output_tokens"]
"""Where a request may bound the tokens of its answer."""


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _Body(msgspec.Struct, gc=False):
    # Every field is optional and may be null, as in the providers' own schemas.
    model: _Model | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    max_output_tokens: _Tokens | None = None
    n: _Choices | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None


class _RelayBody(msgspec.Struct, gc=False):
    # Relayed paths have grammars of their own: only what chooses the route and the kind of reply is read.
    model: _Model | None = None
    stream: bool | None = None


class _Nothing(msgspec.Struct, gc=False):
    pass


class _Editable(msgspec.Struct, gc=False):
    model: msgspec.Raw | UnsetType = UNSET
    stream_options: msgspec.Raw | UnsetType = UNSET
    max_tokens: msgspec.Raw | UnsetType = UNSET
    max_completion_tokens: msgspec.Raw | UnsetType = UNSET
    max_output_tokens: msgspec.Raw | UnsetType = UNSET


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_MAX_PROVEN_BYTES = 256 * 1024
"""A larger body might have a hundred thousand keys, each an object to make."""
_decode_relay = msgspec.json.Decoder(_RelayBody).decode
_decode_nothing = msgspec.json.Decoder(_Nothing).decode
_decode_editable = msgspec.json.Decoder(_Editable).decode

# What a field takes, and how to say so.
_FIELDS: dict[str, tuple[Any, str]] = {
    "model": (_Model | None, "a non-empty string of at most 256 characters"),
    "stream": (bool | None, "true or false"),
    "stream_options": (_StreamOptions | None, "an object, and its include_usage true or false"),
    "max_tokens": (_Tokens | None, "a positive integer of at most 2147483648"),
    "max_completion_tokens": (_Tokens | None, "a positive integer of at most 2147483648"),
    "max_output_tokens": (_Tokens | None, "a positive integer of at most 2147483648"),
    "n": (_Choices | None, "an integer from 1 to 128"),
    "temperature": (float | None, "a number"),
    "top_p": (float | None, "a number"),
    "frequency_penalty": (float | None, "a number"),
    "presence_penalty": (float | None, "a number"),
    "seed": (int | None, "an integer"),
}
_FLOATS = frozenset({"temperature", "top_p", "frequency_penalty", "presence_penalty"})


def _names(*names: str) -> re.Pattern[bytes]:
    # Group 1 is a name as it stands; a match without it is a string that writes a letter of
    # such a name (a-z, _) as an escape, and so may be one of them in disguise.
    return re.compile(rb'"(?:(%s)"|[a-z_]*+\\u00[567])' % "|".join(names).encode())


_READ_NAMES = _names(*_FIELDS)
_RELAY_NAMES = _names("model", "stream")
_EDITED_NAMES = _names(*_Editable.__struct_fields__)
_re_model = re.compile(rb'"model"[ \t\n\r]*+:[ \t\n\r]*+("(?:[^"\\]|\\.)*+")', re.DOTALL)
_re_to_value = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")


def parse_head(body: bytes, operation: Operation, *, path_model: str | None = None) -> RequestHead:
    """The head of a JSON request.

    `path_model` is the model that the path names (Azure's deployments): it wins, and the body needs
    none. Numbers that overflow a double are refused in the fields read here; elsewhere they stay the
    bytes that they are. Raises InvalidRequest, with `param` where one field is at fault.
    """
    if not body.isascii():
        _require_utf8(body)
    relayed = operation == "relay"
    is_plain = False
    try:
        fields = _read_relay(body) if relayed else _decode_body(body)
        is_plain = len(body) <= _MAX_PROVEN_BYTES and _has_plain_keys(body)
    except msgspec.ValidationError:
        _explain(body, relayed)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid_json(body, error) from error
    names = _RELAY_NAMES if relayed else _READ_NAMES
    if not is_plain and _is_ambiguous(body, names):
        _refuse_duplicates(body, relayed)
    model = path_model or fields.model
    if model is None and not relayed:
        raise InvalidRequest(
            "You must provide a model parameter: the name of a route of this gateway, as a string.", param="model"
        )
    options = fields.stream_options
    # By position: names cost a tenth of a microsecond here.
    return RequestHead(
        model,
        fields.model,
        bool(fields.stream),
        options is not None and bool(options.include_usage),
        _max_tokens(fields, operation),
        fields.n or 1,
        fields.temperature,
        fields.top_p,
        fields.seed,
    )


def rewrite(
    body: bytes,
    *,
    model: str | None = None,
    request_usage: bool = False,
    bound: tuple[BoundName, int] | None = None,
) -> bytes:
    """`body` with another model and, if asked, with `stream_options.include_usage` true and with a `bound` on tokens.

    `body` has passed `parse_head`, so none of the names stands there twice. A bound that the client
    set is overwritten: ask for one only where it set none, or null. Every other byte stays as it is,
    in its order; a member that is missing is put first. Returns the same object when nothing changes.
    Raises InvalidRequest for a body that is no JSON object.
    """
    if model is not None and not request_usage and bound is None and (span := _obvious_model(body)) is not None:
        return body[: span[0]] + msgspec.json.encode(model) + body[span[1] :]
    try:
        present = _decode_editable(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid_json(body, error) from error
    wanted: list[tuple[str, Callable[[bytes], bytes]]] = []
    if model is not None:
        encoded = msgspec.json.encode(model)
        wanted.append(("model", lambda old: encoded))
    if request_usage:
        wanted.append(("stream_options", _with_usage))
    if bound is not None:
        number = b"%d" % bound[1]
        wanted.append((bound[0], lambda old: number))
    edits: list[Edit] = []
    added: list[bytes] = []
    members = list(top_level(body)) if _is_ambiguous(body, _EDITED_NAMES) else None
    for name, changed in wanted:
        said = getattr(present, name)
        if isinstance(said, UnsetType):
            added.append(b'"%s":%s' % (name.encode(), changed(b"")))
        else:
            edits += [(start, end, changed(body[start:end])) for start, end in _spans(body, name, said, members)]
    if added:
        edits.append(insertion(body, b",".join(added)))
    return apply_edits(body, edits)


def _require_utf8(body: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        # In pieces, because one emoji would make a string of four bytes a character out of 32 MiB.
        for start in range(0, len(body), 65536):
            decoder.decode(body[start : start + 65536])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InvalidRequest("The body is not valid UTF-8.", code="invalid_json") from error


def _read_relay(body: bytes) -> _Body:
    relayed = _decode_relay(body)
    return _Body(model=relayed.model, stream=relayed.stream)


def _max_tokens(fields: _Body, operation: Operation) -> int | None:
    tokens, name = fields.max_completion_tokens, "max_completion_tokens"
    if tokens is None:
        tokens, name = fields.max_output_tokens, "max_output_tokens"
    if tokens is None:
        tokens, name = fields.max_tokens, "max_tokens"
    # Only the old completions API takes 0 (to score a prompt with echo).
    if tokens == 0 and operation != "text_completion":
        raise _wrong_value(name, b"0")
    return tokens


def _has_plain_keys(body: bytes) -> bool:
    """Proof that no key stands twice at the top level, nor in escapes; False proves nothing.

    The members that a decoder kept, written again as clients write them (without white space, or as
    Python's json does), have the length of the body only if none was lost. A third of the time that
    the search for names takes, and a tenth when the body has many quotes.
    """
    members = _decode_members(body)
    # Each member has two quotes and a colon, and a comma or, the last, one of the two braces.
    compact = 1 + 4 * len(members) + sum(map(len, members)) + sum(map(len, members.values()))
    if compact == len(body):
        return True
    if compact + 2 * len(members) - 1 != len(body):
        return False
    spaced = b", ".join([b'"%s": %s' % (key.encode(), bytes(value)) for key, value in members.items()])
    return b"{%s}" % spaced == body


def _is_ambiguous(body: bytes, names: re.Pattern[bytes]) -> bool:
    """Whether a name may stand twice at the top level: it shows twice anywhere, or in escapes."""
    seen: set[bytes] = set()
    for match in names.finditer(body):
        name = match[1]
        if name is None or name in seen:
            return True
        seen.add(name)
    return False


def _refuse_duplicates(body: bytes, relayed: bool) -> None:
    read = {"model", "stream"} if relayed else _FIELDS.keys()
    seen: set[str] = set()
    for member in top_level(body):
        if member.key in seen:
            raise InvalidRequest(f"The body has a duplicate key: '{member.key}' stands there twice.", param=member.key)
        if member.key in read:
            seen.add(member.key)


def _invalid_json(body: bytes, error: msgspec.DecodeError | RecursionError) -> InvalidRequest:
    if isinstance(error, RecursionError):
        return InvalidRequest("The body's JSON is nested too deeply.", code="invalid_json")
    if not body or body.isspace():
        return InvalidRequest("The body is empty; send a JSON object.", code="invalid_json")
    if isinstance(error, msgspec.ValidationError):
        return InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:4]:
        return InvalidRequest("The body must be JSON in UTF-8 without a byte order mark.", code="invalid_json")
    # msgspec's text names the rule and the position, never the content.
    return InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json")


def _explain(body: bytes, relayed: bool) -> NoReturn:
    """Say which field has the wrong type; the decoder says so only in prose."""
    try:
        _decode_nothing(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid_json(body, error) from error
    names = ("model", "stream") if relayed else tuple(_FIELDS)
    values = [(key, body[start:end]) for key, _, start, end in top_level(body) if key in names]
    wrong = [(key, value) for key, value in values if not _fits(key, value)]
    raise _wrong_value(*wrong[0])


def _fits(name: str, value: bytes) -> bool:
    try:
        msgspec.json.decode(value, type=_FIELDS[name][0])
    except msgspec.ValidationError:
        return False
    return True


def _wrong_value(name: str, value: bytes) -> InvalidRequest:
    overflow = name in _FLOATS and value[:1] in b"-0123456789"
    shown = value[:64].decode("utf-8", "replace") + ("…" if len(value) > 64 else "")
    return InvalidRequest(
        f"Invalid value for '{name}': {shown}. It must be {_FIELDS[name][1]}"
        + (" that fits a double." if overflow else "."),
        code="invalid_json" if overflow else None,
        param=name,
    )


def _obvious_model(body: bytes) -> tuple[int, int] | None:
    """Where the model's value lies, when the body opens with it or has one `}` behind it: the object's own.

    Either proves without a parse that it is the top level's. Most clients send it first or among the last.
    """
    if body.startswith(b'{"model"'):
        found = _re_model.match(body, 1)
        return None if found is None else found.span(1)
    start = body.rfind(b'"model"')
    # A quote behind a backslash is part of a longer key.
    if start < 1 or body[start - 1] == 92:
        return None
    found = _re_model.match(body, start)
    if found is None or body.count(b"}", found.end()) != 1:
        return None
    return found.span(1)


def _spans(body: bytes, name: str, value: msgspec.Raw, members: list[Member] | None) -> list[tuple[int, int]]:
    """Where the values of the top-level members called `name` lie; at least one exists."""
    if members is not None:
        return [(member.value_start, member.value_end) for member in members if member.key == name]
    quoted = b'"%s"' % name.encode()
    colon = _re_to_value.match(body, body.index(quoted) + len(quoted))
    assert colon is not None
    return [(colon.end(), colon.end() + len(bytes(value)))]


def _with_usage(value: bytes) -> bytes:
    if value[:1] != b"{":
        return b'{"include_usage":true}'
    asked = [member for member in top_level(value) if member.key == "include_usage"]
    if asked:
        return apply_edits(value, [(member.value_start, member.value_end, b"true") for member in asked])
    return apply_edits(value, [insertion(value, b'"include_usage":true')])
