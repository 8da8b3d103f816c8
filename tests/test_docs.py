"""What the documentation says is what the code does: names, tables, defaults, links."""

import ast
import re
from pathlib import Path
from typing import cast, get_args

import pytest
from starlette.routing import Route

from gateway.config.schema import Section, Server, Target
from gateway.core.clock import SystemClock
from gateway.core.errors import Outcome
from gateway.edge.admin import admin_app
from gateway.edge.control import Control
from gateway.edge.fleet import Fleet
from gateway.store.base import Journal
from gateway.telemetry.access import AccessRecord
from gateway.telemetry.table import METRICS, TABLE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)")
ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
SCALES = {"": 1.0, "s": 1.0, "KiB": 1024.0, "MiB": 1024.0**2}


def names(pages: list[Path]) -> list[str]:
    """Ids of tests: paths from the root."""
    return [str(page.relative_to(ROOT)) for page in pages]


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below the line that begins with `heading`, without its head."""
    table = re.split(r"\n(?!\|)", text.partition("\n" + heading)[2].partition("\n|")[2])[0]
    return [[cell.strip() for cell in row.split(" | ")] for row in ROW.findall("\n|" + table)][1:]


def test_the_table_of_metrics_is_the_table_in_the_code() -> None:
    """F125."""
    found = [
        (CODE.findall(name)[0], kind, tuple(CODE.findall(labels)), text)
        for name, kind, labels, text in rows((DOCS / "metrics.md").read_text("utf-8"), "| metric |")
        if name != "---"
    ]
    assert found == [(metric.name, metric.kind, metric.labels, metric.help) for metric in METRICS]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_metric_that_is_mentioned_exists(page: Path) -> None:
    """F125: with the suffixes that Prometheus adds to histograms."""
    mentioned = set(re.findall(r"`(gateway_[a-z_]+|process_[a-z_]+)(?=[`{])", page.read_text("utf-8")))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in mentioned} <= TABLE.keys()


def test_every_outcome_and_every_field_of_the_log_is_explained() -> None:
    """F129."""
    text = (DOCS / "metrics.md").read_text("utf-8")
    outcomes = {name for row in rows(text, "| outcome |") for name in CODE.findall(row[0])}
    assert outcomes == set(get_args(Outcome))
    fields = {name for row in rows(text, "| field |") for name in CODE.findall(row[0])}
    # Said in the sentence above the table.
    assert fields | {"event"} == set(AccessRecord.__struct_fields__)


def test_the_paths_of_the_admin_plane_are_those_it_has() -> None:
    """F121."""
    app = admin_app(cast(Control, None), cast(Fleet, None), cast(Journal, None), SystemClock())
    served = {
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    text = (DOCS / "admin.md").read_text("utf-8")
    assert {path for row in rows(text, "| path |") for path in CODE.findall(row[0])} == served


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = {link for link in LINK.findall(page.read_text("utf-8")) if "://" not in link}
    assert [link for link in sorted(links) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_source_file_that_is_named_exists(page: Path) -> None:
    """Files of the package are named from its folder, all others from the root."""
    named = set(re.findall(r"`((?:[\w*]+/)+[\w*]+\.(?:py|md|yaml|txt|toml))", page.read_text("utf-8")))
    gone = [path for path in sorted(named) if not any((*ROOT.glob(path), *(ROOT / "gateway").glob(path)))]
    # Somebody's own files, and `a/b.py` that stands for any.
    assert [path for path in gone if not path.startswith("routes/") and "/a/" not in path] == []


def test_the_rooms_of_the_architecture_are_the_packages_there_are() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    rooms = {name.rstrip("/") for row in rows(text, "| room |") for name in CODE.findall(row[0])}
    assert rooms == {path.parent.name for path in (ROOT / "gateway").glob("*/__init__.py")}


def fields_of(section: type[Section]) -> set[str]:
    """The names of a section's settings."""
    return set(section.model_fields)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_setting_that_is_named_exists(page: Path) -> None:
    """F97: in the form `server.drain` or `targets.*.timeouts`."""
    text = page.read_text("utf-8")
    # Attributes of spans look the same.
    assert set(re.findall(r"`server\.(\w+)", text)) - {"address", "port"} <= fields_of(Server)
    assert set(re.findall(r"`targets\.(?:\*|NAME)\.(\w+)", text)) <= fields_of(Target)


def quantity(text: str) -> float:
    """A number with its unit, in seconds or bytes."""
    number, _, unit = text.partition(" ")
    return float(number) * SCALES[unit]


def test_the_limits_in_the_operations_guide_have_the_defaults_it_says() -> None:
    """F94, F95, F97."""
    checked = 0
    for settings, defaults, _ in rows((DOCS / "operations.md").read_text("utf-8"), "| setting |"):
        said = [quantity(each) for each in defaults.split(", ")] if defaults != "---" else []
        real: list[float] = []
        for setting in CODE.findall(settings):
            room, _, name = setting.rpartition(".")
            section = Server if room == "server" else Target
            default = section.model_fields[name].default
            values = [value for _, value in default] if isinstance(default, Section) else [default]
            real += [float(value) for value in values]
        assert said == real, settings
        checked += len(real)
    assert checked >= 10


def cited(path: str) -> dict[str, set[int]]:
    """The failure modes that each test of a file cites, in its own docstring or in the file's."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = f"{ast.get_docstring(node)} {ast.get_docstring(tree)}"
            ranges = re.findall(r"\bF(\d+)(?:-F(\d+))?\b", text)
            found[node.name] = {n for first, last in ranges for n in range(int(first), int(last or first) + 1)}
    return found


def test_the_table_of_failure_modes_is_whole_and_its_tests_say_so_themselves() -> None:
    """That the tests exist at all is for tests/architecture; here: F1 to F138, each test citing its number."""
    table = re.findall(r"^\| F(\d+) \| .+ \| (.+) \|$", (DOCS / "failure-modes.md").read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in table] == list(range(1, 139))
    silent = []
    for number, cell in table:
        path = ""
        for named, test in re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", cell):
            # A name without a file is in the file named before it.
            path = named or path
            if int(number) not in cited(path)[test]:
                silent.append(f"F{number}: {path}::{test}")
        assert path or cell.startswith("not yet: "), number
    assert silent == []
