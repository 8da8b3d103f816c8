"""From files to a checked configuration, or to every fault at once.

`read` takes in all files and variables; `load` works on what was read alone, so that it gives the same answer in
every process that it is sent to. The way: YAML (document) -> secrets put in their places -> includes and `extends`
(merge) -> types (validate) -> what takes more than one setting to see (semantics).
"""

from dataclasses import dataclass

from gateway.config.document import Document, Path, Value, parse
from gateway.config.faults import ConfigError, Fault, Place, error, in_order, warning
from gateway.config.limits_semantics import PriceKnown
from gateway.config.merge import Merged, merge
from gateway.config.schema import Config
from gateway.config.secret import is_reference
from gateway.config.semantics import check
from gateway.config.sources import CA_POSITION, SECRET_POSITIONS, Sources, at, beside, read, resolve
from gateway.config.upstreams import check_ca
from gateway.config.validate import validate

__all__ = ["ConfigError", "Fault", "Loaded", "PriceKnown", "Sources", "load", "read"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be served."""

    config: Config
    revision: str
    """12 hexadecimal digits that change with anything the configuration was made of, secret values included."""
    warnings: list[Fault]
    sources: Sources


def load(sources: Sources, price_known: PriceKnown | None = None) -> Loaded:
    """The configuration in `sources`. Touches no file of it. Raises ConfigError with every fault.

    `price_known` says whether the price of a model at a provider is known, for targets that a budget applies to and
    that declare none; without it only those are refused of which no model is known either.
    """
    if sources.root not in sources.documents:
        reason = sources.unreadable.get(sources.root, "it was not read")
        raise ConfigError(
            [error(Place(sources.root), f"cannot read the file: {reason}", "name the configuration file")]
        )
    documents = [parse(name, content) for name, content in sources.documents.items()]
    broken = [fault for document in documents if document.is_broken for fault in document.faults]
    if broken:
        # What the rest refers to may stand in the broken file: more faults would be guesses.
        raise ConfigError(broken)
    for document in documents:
        _put_in_secrets(document, sources)
        _put_in_certificates(document, sources)
    merged = merge(documents)
    merged.faults += [fault for document in documents for fault in document.faults]
    merged.faults += _include_faults(documents[0], sources)
    _override(merged, sources)
    _report_empty(merged, merged.values, ())
    config = validate(merged)
    check(merged, price_known)
    faults = in_order(merged.faults, sources.documents)
    if config is None or any(fault.severity == "error" for fault in faults):
        raise ConfigError(faults)
    return Loaded(config, sources.revision, faults, sources)


def _put_in_secrets(document: Document, sources: Sources) -> None:
    for position in SECRET_POSITIONS:
        for _, key, values in at(document.values, position):
            text = values[key]
            if isinstance(text, str) and is_reference(text):
                values[key] = resolve(text, document.name, sources)


def _put_in_certificates(document: Document, sources: Sources) -> None:
    for path, key, values in at(document.values, CA_POSITION):
        text = values[key]
        if not isinstance(text, str) or not text:
            continue
        name = beside(document.name, text)
        content = sources.files.get(name)
        if content is None:
            problem = f"cannot read {name}: {sources.unreadable.get(name, 'it was not read')}"
        else:
            problem = check_ca(content) and f"{name} {check_ca(content)}"
        if problem:
            document.faults.append(error(document.places[path], f"`ca_file`: {problem}"))
        values[key] = name


def _include_faults(root: Document, sources: Sources) -> list[Fault]:
    faults = []
    listed = root.values.get("include")
    for index, pattern in enumerate(listed if isinstance(listed, tuple) else ()):
        if not isinstance(pattern, str):
            continue
        place = root.places["include", index]
        names = sources.includes.get(pattern, ())
        if not names:
            faults.append(warning(place, f'no file matches "{pattern}"', "patterns start at this file's directory"))
        for name in names:
            if name in sources.unreadable:
                faults.append(error(place, f"cannot read {name}: {sources.unreadable[name]}"))
    return faults


def _override(merged: Merged, sources: Sources) -> None:
    """Put the addresses of the command line over those of the file, so that they are checked alike."""
    for name, value in (("listen", sources.listen), ("admin", sources.admin)):
        server = merged.values.get("server", {})
        if value is None or not isinstance(server, dict):
            continue
        merged.values["server"] = server | {name: value}
        merged.places["server", name] = Place(f"--{name}")


def _report_empty(merged: Merged, value: Value, path: Path) -> None:
    """Refuse keys without a value: the line may be half of what somebody meant."""
    children: list[tuple[str | int, Value]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, tuple):
        children = list(enumerate(value))
    elif value is None:
        name = f"`{path[-1]}`" if isinstance(path[-1], str) else f"item {path[-1] + 1} of `{path[-2]}`"
        # Removing the line would let everybody in, which nobody should be told to do in passing.
        advice = "write `keys: open`, or list the keys" if path == ("keys",) else "give it one, or remove the line"
        merged.fault(path, f"{name} has no value", advice)
    for key, child in children:
        _report_empty(merged, child, (*path, key))
