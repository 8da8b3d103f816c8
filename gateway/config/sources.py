"""All that a configuration is made of, as bytes: read once, checked, and sent to worker processes as one thing.

Names of files are relative to the file that names them, `env:` takes a variable, and only variables that the files
name are kept.
"""

import base64
import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.document import Document, Value, parse
from gateway.config.secret import Reference, is_reference

MAX_DOCUMENT = 4 * 1024 * 1024
MAX_FILE = 1024 * 1024
SECRET_POSITIONS = (
    ("server", "admin_token"),
    ("store", "redis"),
    ("webhooks", "*", "url"),
    ("webhooks", "*", "headers", "*"),
    ("telemetry", "traces", "otlp"),
    ("telemetry", "traces", "headers", "*"),
    ("targets", "*", "api_key"),
    ("targets", "*", "headers", "*"),
)
"""Where `env:` and `file:` are understood."""
CA_POSITION = ("targets", "*", "ca_file")
Values = dict[str, Value]
Signature = tuple[str | int, ...]
Position = tuple[str | int, ...]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Sources:
    """The contents of every file and variable that a configuration consists of. Its `repr` shows no content."""

    root: str
    """The main file, as it was named."""
    documents: dict[str, bytes] = field(repr=False)
    """YAML files, the main one first, included ones in order."""
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    """Secret and CA files, by path."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files that could not be read, and why."""
    environ: dict[str, str] = field(default_factory=dict, repr=False)
    """The variables that the files name, those that are set."""
    includes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The files that each pattern of `include` gave."""
    signatures: dict[str, Signature] = field(default_factory=dict, repr=False, compare=False)
    """What each file looked like before it was read. Not part of `dump`: only who read it can watch it."""
    listen: str | None = None
    """Instead of `server.listen`."""
    admin: str | None = None
    """Instead of `server.admin`."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that was read, or should have been."""
        return (*self.documents, *self.files, *self.unreadable)

    @property
    def revision(self) -> str:
        """12 hexadecimal digits that change with any content, the same wherever the directory lies."""
        digest = hashlib.sha256()
        home = Path(self.root).parent
        pieces = [
            *((f"document {_relative(name, home)}", content) for name, content in self.documents.items()),
            *((f"file {_relative(name, home)}", content) for name, content in sorted(self.files.items())),
            *(
                (f"env {name}", value.encode("utf-8", "surrogateescape"))
                for name, value in sorted(self.environ.items())
            ),
            ("listen", (self.listen or "").encode()),
            ("admin", (self.admin or "").encode()),
        ]
        for name, content in pieces:
            digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return digest.hexdigest()[:12]

    def dump(self) -> bytes:
        """All of it, secrets included, for `restore` in another process."""
        plain = {
            "root": self.root,
            "documents": {name: base64.b64encode(content).decode() for name, content in self.documents.items()},
            "files": {name: base64.b64encode(content).decode() for name, content in self.files.items()},
            "unreadable": self.unreadable,
            "environ": self.environ,
            "includes": self.includes,
            "listen": self.listen,
            "admin": self.admin,
        }
        return json.dumps(plain).encode()

    @classmethod
    def restore(cls, dumped: bytes) -> "Sources":
        """What `dump` was called on."""
        plain = json.loads(dumped)
        plain["documents"] = {name: base64.b64decode(content) for name, content in plain["documents"].items()}
        plain["files"] = {name: base64.b64decode(content) for name, content in plain["files"].items()}
        plain["includes"] = {pattern: tuple(names) for pattern, names in plain["includes"].items()}
        return cls(**plain)

    @classmethod
    def of_text(cls, text: str, environ: Mapping[str, str] | None = None, name: str = "gateway.yaml") -> "Sources":
        """One file with this content, as if it had been read; its includes and secret files are not."""
        content = text.encode()
        return cls(name, {name: content}, environ=_variables(parse(name, content), environ or {}))


def read(path: Path, environ: Mapping[str, str], *, listen: str | None = None, admin: str | None = None) -> Sources:
    """Everything that the file `path` names, as it is now. Raises nothing for a bad file: `load` reports it.

    `listen` and `admin` replace the addresses in the file.
    """
    sources = Sources(str(path), {}, listen=listen, admin=admin)
    _read_document(sources, str(path), environ)
    if str(path) in sources.documents:
        for pattern in _patterns(parse(str(path), sources.documents[str(path)])):
            names = included(path, pattern)
            sources.includes[pattern] = names
            for name in names:
                if name not in sources.documents:
                    _read_document(sources, name, environ)
    return sources


def included(root: Path, pattern: str) -> tuple[str, ...]:
    """The files that an include pattern of the main file `root` means now, sorted; hidden ones are left out.

    A name without wildcards is always one of them, whether the file exists or not.
    """
    if not any(wildcard in pattern for wildcard in "*?["):
        return (str(root.parent / pattern),)
    base = Path(pattern).anchor or str(root.parent)
    below = str(Path(pattern).relative_to(base)) if Path(pattern).anchor else pattern
    try:
        found = sorted(Path(base).glob(below))
    except (ValueError, NotImplementedError, OSError):
        return ()
    return tuple(str(path) for path in found if path != root and not _is_hidden(path, Path(base)) and path.is_file())


def signature(name: str) -> Signature:
    """What a file looks like from outside: where its path leads, inode, size, times. Empty when there is none."""
    path = Path(name)
    try:
        status = path.stat()
        where = str(path.resolve())
    except (OSError, RuntimeError, ValueError):
        return ()
    return (where, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def beside(document: str, name: str) -> str:
    """The path of `name` as written in the file `document`."""
    return str(Path(document).parent / name)


def at(values: Value, position: tuple[str, ...], path: Position = ()) -> Iterator[tuple[Position, str, Values]]:
    """The paths at which there is a value at `position` (`*` is any key, or any item of a list).

    Each comes with its last key and the mapping that holds it.
    """
    head, *rest = position
    if isinstance(values, tuple) and head == "*" and rest:
        for index, item in enumerate(values):
            yield from at(item, tuple(rest), (*path, index))
    if not isinstance(values, dict):
        return
    for key in list(values) if head == "*" else [head]:
        if key not in values:
            continue
        if rest:
            yield from at(values[key], tuple(rest), (*path, key))
        else:
            yield (*path, key), key, values


def resolve(text: str, document: str, sources: Sources) -> Reference:
    """The value of `env:NAME` or `file:PATH` as written in `document`."""
    kind, _, name = text.partition(":")
    if kind == "env":
        if _VARIABLE.fullmatch(name) is None:
            return Reference(text, None, f'"{name}" is not the name of a variable')
        content = sources.environ.get(name)
    else:
        path = beside(document, name)
        if path not in sources.files:
            return Reference(text, None, f"cannot read {path}: {sources.unreadable.get(path, 'it was not read')}")
        content = sources.files[path].decode("latin-1")
    value = (content or "").rstrip("\r\n")
    if not value.isascii() or not value.isprintable():
        return Reference(text, None, f"{text} holds a line break, a control or a non-ASCII character")
    return Reference(text, value or None)


def _read_document(sources: Sources, name: str, environ: Mapping[str, str]) -> None:
    sources.signatures[name] = signature(name)
    content = _read_file(name, MAX_DOCUMENT)
    if isinstance(content, str):
        sources.unreadable[name] = content
        return
    sources.documents[name] = content
    document = parse(name, content)
    sources.environ.update(_variables(document, environ))
    for path in _files(document):
        sources.signatures[path] = signature(path)
        found = _read_file(path, MAX_FILE)
        if isinstance(found, str):
            sources.unreadable[path] = found
        else:
            sources.files[path] = found


def _read_file(name: str, limit: int) -> bytes | str:
    """The content, or why there is none."""
    path = Path(name)
    try:
        # A pipe or a device would block, or never end.
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a file"
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as reason:
        return (reason.strerror if isinstance(reason, OSError) else None) or "not a path"
    return content if len(content) <= limit else f"larger than {limit // 1024**2} MiB"


def _references(document: Document) -> Iterator[str]:
    for position in SECRET_POSITIONS:
        for _, key, values in at(document.values, position):
            text = values[key]
            if isinstance(text, str) and is_reference(text):
                yield text


def _variables(document: Document, environ: Mapping[str, str]) -> dict[str, str]:
    names = (text.removeprefix("env:") for text in _references(document) if text.startswith("env:"))
    return {name: environ[name] for name in names if name in environ}


def _files(document: Document) -> Iterator[str]:
    for text in _references(document):
        if text.startswith("file:"):
            yield beside(document.name, text.removeprefix("file:"))
    for _, key, values in at(document.values, CA_POSITION):
        name = values[key]
        if isinstance(name, str) and name:
            yield beside(document.name, name)


def _patterns(document: Document) -> list[str]:
    listed = document.values.get("include")
    return [pattern for pattern in listed if isinstance(pattern, str) and pattern] if isinstance(listed, tuple) else []


def _is_hidden(path: Path, base: Path) -> bool:
    # Editors' lock files and the `..data` directories of a Kubernetes volume would be read a second time.
    return any(part.startswith(".") for part in path.relative_to(base).parts if part != "..")


def _relative(name: str, home: Path) -> str:
    path = Path(name)
    return str(path.relative_to(home)) if path.is_relative_to(home) else name
