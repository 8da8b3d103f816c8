"""What no file of the tree may name: package registries and places of one machine."""

import re

from tests.architecture.tree import assert_none, texts

# In pieces, so that this file does not name them either.
REGISTRIES = tuple(
    ".".join(pieces)
    for pieces in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("static", "crates", "io"),
        ("proxy", "golang", "org"),
        ("repo", "anaconda", "com"),
    )
)
MACHINE_PATHS = re.compile(r"(?:^|[^A-Za-z0-9._-])/(?:work|farm|root|tmp/v)/", re.MULTILINE)
INDEX_OPTIONS = re.compile(r"^(?:--(?:extra-)?index-url|--find-links|--trusted-host|-i|-f)\b", re.MULTILINE)


def text_faults(path: str, text: str) -> list[str]:
    """What `text` names and should not."""
    faults = [f"{path}: {host}" for host in REGISTRIES if host in text]
    faults += [f"{path}: {found.group().strip()}" for found in MACHINE_PATHS.finditer(text)]
    if path.startswith("requirements/"):
        faults += [f"{path}: {found.group()}" for found in INDEX_OPTIONS.finditer(text)]
    return faults


def test_no_file_names_a_registry_or_a_place_of_one_machine() -> None:
    assert_none(fault for path, text in texts() for fault in text_faults(path, text))


def test_a_registry_and_a_machine_path_are_found() -> None:
    text = f"--index-url https://{REGISTRIES[0]}/simple\ncache in /{'work'}/cache\nhttp://a.example/{'work'}s\n"
    assert text_faults("requirements/a.txt", text) == [
        f"requirements/a.txt: {REGISTRIES[0]}",
        f"requirements/a.txt: /{'work'}/",
        "requirements/a.txt: --index-url",
    ]
