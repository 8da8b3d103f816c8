"""One YAML file as plain values, each with its place in the file.

Types are those of YAML 1.2's core schema, not 1.1's: `no` and `off` are texts, `012` keeps its zero, `8080:10` is no
sexagesimal number and a date stays a text until a setting wants a date. Numbers remember how they were written, since
a tag `1.10` is not `1.1`. Nothing is constructed from YAML tags.
"""

import math
import re
from dataclasses import dataclass, field

import yaml

from gateway.config.faults import Fault, Place, error

Path = tuple[str | int, ...]
Value = dict[str, "Value"] | tuple["Value", ...] | str | int | float | bool | None

_MAX_VALUES = 200_000
_MAX_DEPTH = 32
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value"))
_COLLECTION_TAGS = frozenset({_TAG + "map", _TAG + "seq"})

_SYNTAX_ADVICE = {
    "mapping values are not allowed": "text with a colon and a space needs quotes; or the indentation is off",
    "found character that cannot start any token": "text that begins with @, ` or % needs quotes",
    "did not find expected ',' or": "close the bracket, or put a comma between the items",
    "found unexpected end of stream": "close the quotes",
    "found undefined alias": "text that begins with * needs quotes",
    "did not find expected alphabetic or numeric": "text that begins with * or & needs quotes",
    "could not find expected ':'": "every line here needs a key and a colon",
    "found another document": "keep one document, without further `---` lines",
}


class Number(float):
    """A number with a fraction or an exponent; its text is what was written."""

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> "Number":
        """The number that `text` is."""
        self = super().__new__(cls, text)
        self.text = text
        return self

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Document:
    """The values of one file. `places` has where each value stands, `key_places` where its key does."""

    name: str
    values: dict[str, Value] = field(default_factory=dict)
    places: dict[Path, Place] = field(default_factory=dict)
    key_places: dict[Path, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    is_broken: bool = False
    """Nothing could be read of it: `faults` has the one reason."""


def parse(name: str, content: bytes) -> Document:
    """The values in a file's `content`. Faults are in the document, none is raised."""
    document = Document(name)
    fault = _compose_into(document, content)
    if fault is not None:
        document.faults = [fault]
        document.is_broken = True
    return document


def _compose_into(document: Document, content: bytes) -> Fault | None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        return error(_byte_place(document.name, content, reason.start), "not UTF-8", "save the file as UTF-8")
    try:
        too_deep = _too_deep(document.name, text)
        root = None if too_deep else yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as reason:
        return _syntax_fault(document.name, text, reason)
    if root is None:
        return too_deep
    if not isinstance(root, yaml.MappingNode):
        return error(_place(document.name, root), "the file is not a mapping", "begin with apiVersion: gateway/v1")
    return _Converter(document).convert_root(root)


def _too_deep(name: str, text: str) -> Fault | None:
    # Composing is recursive in C: ten thousand brackets would end the process by a segmentation fault (PyYAML 6.0.3).
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                mark = event.start_mark
                return _depth_fault(Place(name, mark.line + 1, mark.column + 1) if mark else Place(name))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


def _depth_fault(place: Place) -> Fault:
    return error(place, f"nested deeper than {_MAX_DEPTH} levels", "close the brackets")


class _TooMuch(Exception):
    """A document that no person wrote; `args` is the fault."""


class _Converter:
    """Turns nodes into values, writing down places and faults."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = _MAX_VALUES
        self._open: set[int] = set()

    def convert_root(self, root: yaml.MappingNode) -> Fault | None:
        """Fill the document; the fault that made it stop, if one did."""
        try:
            values = self._convert(root, ())
        except _TooMuch as reason:
            fault: Fault = reason.args[0]
            return fault
        assert isinstance(values, dict)
        self._document.values = values
        return None

    def _convert(self, node: yaml.Node, path: Path) -> Value:
        place = _place(self._document.name, node)
        self._left -= 1
        if self._left < 0:
            raise _TooMuch(error(place, f"the file has more than {_MAX_VALUES} values", "repeat aliases less often"))
        # Aliases can nest what the file itself does not.
        if len(path) > _MAX_DEPTH:
            raise _TooMuch(_depth_fault(place))
        if isinstance(node, yaml.ScalarNode):
            self._document.places[path] = place
            return self._scalar(node, place)
        # An unfit container is reported where its key stands: that is the line people look at.
        self._document.places[path] = self._document.key_places.get(path, place)
        if node.tag not in _COLLECTION_TAGS:
            self._fault(place, "YAML tags are not supported", "text that begins with ! needs quotes")
        if id(node) in self._open:
            raise _TooMuch(error(place, "an alias contains itself", "write the value out"))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            assert isinstance(node, yaml.SequenceNode)
            return tuple(self._convert(item, (*path, index)) for index, item in enumerate(node.value))
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            place = _place(self._document.name, key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(place, "a key is a plain text", "put text with brackets or braces in quotes")
                continue
            key = key_node.value
            if key == "<<" and _is_plain(key_node):
                self._fault(place, "merge keys (`<<`) are not supported", "use `extends` in targets, or write it out")
                continue
            if key in values:
                first = self._document.key_places[(*path, key)]
                self._fault(place, f"`{key}` is given twice", f"first on line {first.line}; keep one")
                continue
            self._document.key_places[(*path, key)] = place
            values[key] = self._convert(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Value:
        if node.tag not in _PLAIN_TAGS:
            self._fault(place, "YAML tags are not supported", "text that begins with ! needs quotes")
        text = str(node.value)
        return _core_value(text) if _is_plain(node) and node.tag != _TAG + "str" else text

    def _fault(self, place: Place, message: str, advice: str) -> None:
        self._document.faults.append(error(place, message, advice))


def _is_plain(node: yaml.ScalarNode) -> bool:
    # libyaml says "" where PyYAML's own parser says None.
    return not node.style


def _core_value(text: str) -> Value:
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if text in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and len(text) <= 64 and math.isfinite(number := Number(text)):
        return number
    return text


def _place(name: str, node: yaml.Node) -> Place:
    return Place(name, node.start_mark.line + 1, node.start_mark.column + 1)


def _byte_place(name: str, content: bytes, offset: int) -> Place:
    line_start = content.rfind(b"\n", 0, offset) + 1
    column = len(content[line_start:offset].decode("utf-8", "replace"))
    return Place(name, content.count(b"\n", 0, offset) + 1, column + 1)


def _syntax_fault(name: str, text: str, reason: yaml.YAMLError) -> Fault:
    # The excerpt that PyYAML would show is left out: the line may hold a secret pasted by mistake.
    if not isinstance(reason, yaml.MarkedYAMLError) or reason.problem_mark is None:
        return error(_control_character(name, text), "not YAML: a control character", "remove it")
    mark = reason.problem_mark
    # Names of anchors and tags are left out too, for the same reason.
    problem = re.sub(r" '[^']{2,}'", "", reason.problem or reason.context or "broken")
    advice = next((advice for start, advice in _SYNTAX_ADVICE.items() if start in problem), None)
    lines = text.split("\n")
    if mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
        problem, advice = "a tab cannot indent", "indent with spaces"
    place = Place(name, mark.line + 1, mark.column + 1)
    return error(place, f"not YAML: {problem}", advice or "check the quotes, brackets and indentation up to here")


def _control_character(name: str, text: str) -> Place:
    for number, line in enumerate(text.split("\n"), 1):
        for column, character in enumerate(line, 1):
            if not character.isprintable() and character not in "\t\r\x85\xa0\u2028\u2029\ufeff":
                return Place(name, number, column)
    return Place(name)
