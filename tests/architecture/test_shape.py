"""Sizes that stay readable, one test file for every source file, and tests that assert something."""

import ast
from collections.abc import Iterable

from tests.architecture.tree import ROOT, Module, assert_none, module, modules

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Source file -> why it has no test file of its own.
UNTESTED_ALONE = {
    "gateway/__main__.py": "one line: calls cli.main",
    "gateway/store/base.py": "protocols and nouns alone: tests/unit/store/behaviour.py asks them of every store",
}

GATEWAY = modules("gateway")
TESTS = modules("tests")
LOADTESTS = modules("loadtests")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: Module) -> list[Function]:
    """Every function and method of `source`, nested ones too."""
    return [node for node in ast.walk(source.tree) if isinstance(node, Function)]


def size_faults(sources: Iterable[Module]) -> list[str]:
    """Files and functions that are too long to be read at once."""
    faults = []
    for source in sources:
        lines = source.text.count("\n")
        if lines > MAX_FILE_LINES:
            faults.append(f"{source.path}: {lines} lines")
        for function in functions(source):
            assert function.end_lineno is not None
            length = function.end_lineno - function.lineno + 1
            if length > MAX_FUNCTION_LINES:
                faults.append(f"{source.at(function)}: {function.name} has {length} lines")
    return faults


def file_of_tests(source_path: str) -> str:
    """Where the tests of `gateway/a/b.py` belong: `tests/unit/a/test_b.py`."""
    folder, _, name = source_path.removeprefix("gateway/").rpartition("/")
    return "/".join(part for part in ("tests/unit", folder, f"test_{name}") if part)


def untested(sources: Iterable[str], tests: set[str]) -> list[str]:
    """Source files without their test file, as `source: expected test`."""
    return [
        f"{path}: {file_of_tests(path)}"
        for path in sources
        if not path.endswith("/__init__.py") and path not in UNTESTED_ALONE and file_of_tests(path) not in tests
    ]


def orphans(sources: set[str], tests: Iterable[str]) -> list[str]:
    """Unit tests whose source is gone: a file, or a package that is tested as one."""
    expected = {file_of_tests(path.replace("/__init__.py", ".py")) for path in sources}
    return [path for path in tests if path.startswith("tests/unit/") and is_test_file(path) and path not in expected]


def is_test_file(path: str) -> bool:
    """Whether pytest collects it."""
    return path.rpartition("/")[2].startswith("test_")


def asserts(function: Function, proving: set[str]) -> bool:
    """Whether something in `function` can fail on purpose, itself or through a function named in `proving`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            # `until` is tests/gateway/waiting.py's: it fails when what it waits for does not come.
            if (
                called in proving
                or called in {"raises", "warns", "fail", "until"}
                or called.startswith(("assert_", "expect"))
            ):
                return True
    return False


def empty_tests(source: Module) -> list[str]:
    """Tests that assert nothing; helpers of the same file that assert count for those who call them."""
    found = functions(source)
    proving: set[str] = set()
    while more := {each.name for each in found if asserts(each, proving)} - proving:
        proving |= more
    return [
        f"{source.at(each)}: {each.name} asserts nothing"
        for each in found
        if each.name.startswith("test_") and is_test_file(source.path) and each.name not in proving
        if not has_marker(each, "fixture")
    ]


def has_marker(function: Function, name: str) -> bool:
    """Whether a decorator of that name stands on `function`."""
    return any(name in ast.unparse(decorator) for decorator in function.decorator_list)


def test_files_and_functions_stay_readable() -> None:
    assert_none(size_faults(GATEWAY))


def test_every_source_file_has_its_test_file() -> None:
    assert_none(untested([source.path for source in GATEWAY], {test.path for test in TESTS}))


def test_every_exemption_is_still_a_file() -> None:
    assert [path for path in UNTESTED_ALONE if not (ROOT / path).is_file()] == []


def test_every_unit_test_has_its_source_file() -> None:
    assert_none(orphans({source.path for source in (*GATEWAY, *LOADTESTS)}, [test.path for test in TESTS]))


def test_every_test_asserts_something() -> None:
    assert_none(fault for test in TESTS for fault in empty_tests(test))


def test_a_long_function_and_a_long_file_are_found() -> None:
    text = "def long():\n" + "    pass\n" * MAX_FUNCTION_LINES + "\n" * MAX_FILE_LINES
    assert size_faults([module("gateway/core/long.py", text)]) == [
        "gateway/core/long.py: 461 lines",
        "gateway/core/long.py:1: long has 61 lines",
    ]


def test_a_source_file_without_tests_is_found() -> None:
    assert untested(
        ["gateway/core/a.py", "gateway/cli.py", "gateway/core/__init__.py"], {"tests/unit/test_cli.py"}
    ) == ["gateway/core/a.py: tests/unit/core/test_a.py"]


def test_a_test_file_without_source_is_found() -> None:
    sources = {"gateway/core/a.py", "loadtests/bench.py", "loadtests/scenarios/__init__.py"}
    tests = [f"tests/unit/{name}.py" for name in ("core/test_a", "core/test_b", "loadtests/test_bench")]
    tests.append("tests/unit/loadtests/test_scenarios.py")
    assert orphans(sources, tests) == ["tests/unit/core/test_b.py"]


def test_an_empty_test_is_found_and_a_proving_helper_counts() -> None:
    text = (
        "def prove():\n    assert True\n"
        "def test_by_helper():\n    prove()\n"
        "def test_by_raising():\n    with pytest.raises(ValueError):\n        f()\n"
        "def test_nothing():\n    f()\n"
    )
    assert empty_tests(module("tests/unit/core/test_a.py", text)) == [
        "tests/unit/core/test_a.py:8: test_nothing asserts nothing"
    ]
