"""Several documents as one: included files are added to the main one, and targets get what they extend."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.config.document import Document, Path, Value
from gateway.config.faults import Fault, Place, did_you_mean, error, warning
from gateway.config.unknown import unknown_key

_SHARED = ("keys", "targets", "routes")
_LONGEST_CHAIN = 32


@dataclass(slots=True)
class Merged:
    """The values of all documents, and where each of them stands."""

    values: dict[str, Value]
    places: dict[Path, Place]
    key_places: dict[Path, Place]
    root: str
    faults: list[Fault] = field(default_factory=list)
    parents: dict[str, str] = field(default_factory=dict)
    """Targets and the target they extend; never a circle."""

    def place(self, path: Path) -> Place:
        """Where the value at `path` stands, or the nearest thing that contains it."""
        for length in range(len(path), 0, -1):
            found = self._find(self.places, path[:length])
            if found is not None:
                return found
        return Place(self.root, 1, 1)

    def key_place(self, path: Path) -> Place:
        """Where the key at `path` stands, or its value where it has none (an item of a list)."""
        return self._find(self.key_places, path) or self.place(path)

    def _find(self, table: dict[Path, Place], path: Path) -> Place | None:
        # What is wrong with an inherited value is reported where it stands: once, at the parent.
        while path not in table:
            if len(path) < 3 or path[0] != "targets" or path[1] not in self.parents:
                return None
            path = ("targets", self.parents[str(path[1])], *path[2:])
        return table[path]

    def fault(self, path: Path, message: str, advice: str = "") -> None:
        """Write down an error at the value of `path`."""
        self.faults.append(error(self.place(path), message, advice))

    def fault_at_key(self, path: Path, message: str, advice: str = "") -> None:
        """Write down an error at the key of `path`."""
        self.faults.append(error(self.key_place(path), message, advice))

    def doubt(self, path: Path, message: str, advice: str = "") -> None:
        """Write down a warning at the value of `path`."""
        self.faults.append(warning(self.place(path), message, advice))

    def section(self, *path: str | int) -> Mapping[str, Value]:
        """The mapping at `path`; an empty one where there is something else, or nothing."""
        value: Value = self.values
        for part in path:
            if isinstance(value, dict) and part in value:
                value = value[str(part)]
            elif isinstance(value, tuple) and isinstance(part, int):
                value = value[part]
            else:
                return {}
        return value if isinstance(value, dict) else {}

    def items(self, *path: str | int) -> Iterator[tuple[Path, Mapping[str, Value]]]:
        """The mappings in the list at `path`, each with its own path; nothing where there is no list."""
        listed = self.section(*path[:-1]).get(str(path[-1]))
        for index, item in enumerate(listed if isinstance(listed, tuple) else ()):
            if isinstance(item, dict):
                yield (*path, index), item

    def once(self, seen: dict[str, Path], name: str, path: Path, message: str) -> None:
        """Write down the error `message` when `name`, at `path`, was already `seen`; remember it else."""
        if name not in seen:
            seen[name] = path
            return
        first = self.place(seen[name])
        self.fault(path, message, f"first at {first.file}:{first.line}; keep one")

    def is_orphan(self, name: str) -> bool:
        """Whether what a target extends, or what that extends, could not be found."""
        while name in self.parents:
            name = self.parents[name]
        return "extends" in self.section("targets", name)

    def adopt(self, document: Document, source: Path, destination: Path) -> None:
        """Take over where the values of `document` below `source` stand, as `destination`."""
        _rebase(document.places, self.places, source, destination)
        _rebase(document.key_places, self.key_places, source, destination)


def merge(documents: list[Document]) -> Merged:
    """The first of `documents` with the keys, targets and routes of the others added."""
    root, *others = documents
    merged = Merged(dict(root.values), dict(root.places), dict(root.key_places), root.name)
    for document in others:
        for section in document.values:
            if section in _SHARED:
                _add(merged, document, section)
            else:
                _refuse_section(merged, document, section)
    _extend_all(merged)
    return merged


def _refuse_section(merged: Merged, document: Document, section: str) -> None:
    place = document.key_places[(section,)]
    if section == "apiVersion":
        if document.values[section] != "gateway/v1":
            merged.faults.append(error(document.places[(section,)], "`apiVersion` must be gateway/v1"))
        return
    fault = unknown_key(place, (section,))
    if not fault.message.startswith("unknown key"):
        merged.faults.append(fault)
        return
    merged.faults.append(error(place, f"`{section}` in an included file", "only keys, targets and routes may be here"))


def _add(merged: Merged, document: Document, section: str) -> None:
    place = document.key_places[(section,)]
    value = document.values[section]
    there = merged.values.get(section)
    if section == "targets":
        if not isinstance(value, dict):
            merged.faults.append(error(place, "`targets` must be a mapping", "write NAME: {provider: ...}"))
        elif there is None or isinstance(there, dict):
            _add_targets(merged, document, {} if there is None else there, value)
        return
    if section == "keys" and (value == "open" or there == "open"):
        advice = "remove `open`, or remove the keys"
        merged.faults.append(error(place, "`keys: open` and listed keys exclude each other", advice))
    elif not isinstance(value, tuple):
        merged.faults.append(error(place, f"`{section}` must be a list", "begin each item with a dash"))
    elif there is None or isinstance(there, tuple):
        before = there or ()
        merged.values[section] = (*before, *value)
        merged.places.setdefault((section,), place)
        for index in range(len(value)):
            merged.adopt(document, (section, index), (section, len(before) + index))


def _add_targets(merged: Merged, document: Document, there: dict[str, Value], added: dict[str, Value]) -> None:
    together = dict(there)
    for name, target in added.items():
        path: Path = ("targets", name)
        if name in together:
            first = merged.key_place(path)
            message = f"target `{name}` is given twice"
            merged.faults.append(
                error(document.key_places[path], message, f"first at {first.file}:{first.line}; keep one")
            )
            continue
        together[name] = target
        merged.adopt(document, path, path)
    merged.values["targets"] = together
    merged.places.setdefault(("targets",), document.places[("targets",)])


def _extend_all(merged: Merged) -> None:
    targets = merged.values.get("targets")
    if not isinstance(targets, dict):
        return
    done: dict[str, Value] = {}
    merged.values["targets"] = {name: _extended(merged, targets, name, (), done) for name in targets}


def _extended(
    merged: Merged, targets: dict[str, Value], name: str, chain: tuple[str, ...], done: dict[str, Value]
) -> Value:
    """The target `name` with everything it inherits; a broken reference is reported and inherits nothing."""
    if name in done:
        return done[name]
    # Settled at once: met again from another side, a broken reference would be reported twice, a circle closed.
    target = done[name] = targets[name]
    parent_name = target.get("extends") if isinstance(target, dict) else None
    if not isinstance(target, dict) or not isinstance(parent_name, str):
        return target
    path: Path = ("targets", name, "extends")
    links = (*chain, name)
    if parent_name not in targets:
        advice = did_you_mean(parent_name, set(targets) - {name})
        merged.fault(path, f"there is no target `{parent_name}`", advice or "name a target that exists")
    elif parent_name in links:
        circle = " -> ".join((*links[links.index(parent_name) :], parent_name))
        merged.fault(path, f"`extends` goes in a circle: {circle}", "remove one of them")
    elif len(links) > _LONGEST_CHAIN:
        merged.fault(path, f"`extends` goes over more than {_LONGEST_CHAIN} targets", "extend fewer")
    else:
        parent = _extended(merged, targets, parent_name, links, done)
        if isinstance(parent, dict):
            done[name] = _inherit(target, parent)
            merged.parents[name] = parent_name
    return done[name]


def _inherit(target: dict[str, Value], parent: dict[str, Value]) -> dict[str, Value]:
    together = {key: value for key, value in parent.items() if key != "extends"} | target
    for key, inherited in parent.items():
        own = target.get(key)
        if isinstance(inherited, dict) and isinstance(own, dict):
            together[key] = inherited | own
    return together


def _rebase(source: dict[Path, Place], destination: dict[Path, Place], old: Path, new: Path) -> None:
    for path, place in source.items():
        if path[: len(old)] == old:
            destination[(*new, *path[len(old) :])] = place
