"""The tree as the rules read it: parsed modules of a package, and every text file that we wrote."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Not ours, or made by tools; as in .gitignore.
SKIPPED = {"__pycache__", "build", "dist", "node_modules", "state"}


@dataclass(frozen=True, slots=True)
class Module:
    """One source file. `name` is dotted: `gateway.core.errors`; a package has the name of its folder."""

    name: str
    path: str
    """From the root of the tree."""
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder below the package, or the file's own name for those that lie in the package itself."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    def at(self, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
        """Where `node` stands, as tools and editors write it."""
        return f"{self.path}:{node.lineno}"


def module(path: str, text: str) -> Module:
    """The file at `path` (from the root) with the content `text`."""
    parts = Path(path).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return Module(".".join(parts), path, text, ast.parse(text, path))


def modules(folder: str) -> list[Module]:
    """Every Python file below `folder`, in order of its path."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [module(str(path.relative_to(ROOT)), path.read_text("utf-8")) for path in paths]


def imports(tree: ast.Module) -> Iterator[tuple[str, ast.Import | ast.ImportFrom]]:
    """Dotted names of what is imported anywhere in `tree`: `a.b` and `a.b.c` for `from a.b import c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node


def texts() -> Iterator[tuple[str, str]]:
    """Path and content of every text file in the tree."""
    for path in _files(ROOT):
        content = path.read_bytes()
        try:
            yield str(path.relative_to(ROOT)), content.decode("utf-8")
        except UnicodeDecodeError:
            continue


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name not in {".ci", ".github", ".gitignore"}
        if hidden or path.name in SKIPPED or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def assert_none(faults: Iterable[str]) -> None:
    """Fail with every fault on a line of its own; a compared list would be shown cut."""
    listed = list(faults)
    assert not listed, "\n".join(["", *listed])
