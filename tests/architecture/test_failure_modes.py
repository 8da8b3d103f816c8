"""docs/failure-modes.md, the table from failure mode to test, says what is true."""

import ast
import re

import pytest

from tests.architecture.tree import ROOT, modules

TABLE = ROOT / "docs" / "failure-modes.md"
ROW = re.compile(r"^\|\s*F?(\d+)\s*\|(.+)\|\s*$", re.MULTILINE)
PATH_AND_NAME = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")
BARE_NAME = re.compile(r"(?<![\w:])test_\w+(?!\w*\.py)")


def table_faults(text: str, tests: dict[str, set[str]]) -> list[str]:
    """Rows that name a test which is not there, or neither a test nor a reason. `tests`: functions of each file."""
    faults = []
    everywhere = {name for names in tests.values() for name in names}
    seen: set[str] = set()
    for number, row in ROW.findall(text):
        if number in seen:
            faults.append(f"F{number}: two rows")
        seen.add(number)
        if not row.rpartition("|")[2].strip(" -\N{EN DASH}"):
            faults.append(f"F{number}: neither a test nor a reason")
        for path, name in PATH_AND_NAME.findall(row):
            if path not in tests:
                faults.append(f"F{number}: no file {path}")
            elif name and name not in tests[path]:
                faults.append(f"F{number}: no {name} in {path}")
        for name in BARE_NAME.findall(PATH_AND_NAME.sub("", row)):
            if name not in everywhere:
                faults.append(f"F{number}: no {name} anywhere")
    return faults


def test_every_test_that_the_table_names_exists() -> None:
    if not TABLE.is_file():
        pytest.skip(f"no {TABLE.relative_to(ROOT)} yet")
    tests = {
        test.path: {
            node.name for node in ast.walk(test.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for test in modules("tests")
    }
    text = TABLE.read_text("utf-8")
    assert ROW.search(text), "the table has no row of the form `| F1 | … | tests/….py::test_… |`"
    assert table_faults(text, tests) == []


def test_a_missing_test_and_a_missing_reason_are_found() -> None:
    tests = {"tests/gateway/test_a.py": {"test_there"}}
    text = (
        "| # | what | test |\n| --- | --- | --- |\n"
        "| F1 | client leaves | `tests/gateway/test_a.py::test_there`, `test_there` |\n"
        "| 2 | client leaves early | `tests/gateway/test_a.py::test_gone` |\n"
        "| 3 | other | `tests/gateway/test_b.py` |\n"
        "| 4 | other | `test_nowhere` |\n"
        "| 5 | other | |\n"
        "| 6 | other | cannot happen: there is no cache |\n"
        "| 6 | other | again |\n"
    )
    assert table_faults(text, tests) == [
        "F2: no test_gone in tests/gateway/test_a.py",
        "F3: no file tests/gateway/test_b.py",
        "F4: no test_nowhere anywhere",
        "F5: neither a test nor a reason",
        "F6: two rows",
    ]
