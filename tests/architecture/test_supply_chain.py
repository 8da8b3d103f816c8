"""Nothing is installed that the locks do not name, hash by hash (F122)."""

import re
import site
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
REQUIREMENT = re.compile(r"^[a-z0-9][a-z0-9.-]*==[^ ]+(?: ; .+)?$")
HASH = re.compile(r"^--hash=sha256:[0-9a-f]{64}$")

# A .pth file runs code at every start of Python. These are known: the package itself, installed for editing; the shim
# of setuptools; coverage's switch for child processes (it acts only when a variable asks); virtualenv's own.
KNOWN_PTH = re.compile(r"^(__editable__\.llm_gateway-.*|distutils-precedence|a1_coverage|_virtualenv)\.pth$")


def lock_faults(text: str) -> list[str]:
    """Entries of a lock that are not an exact version with at least one SHA-256."""
    faults = []
    for entry in re.sub(r" \\\n +", "\t", text).splitlines():
        requirement, *hashes = entry.split("\t")
        if requirement.startswith("#"):
            continue
        if not REQUIREMENT.match(requirement) or not hashes or not all(HASH.match(each) for each in hashes):
            faults.append(requirement)
    return faults


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_exact_and_hashed(lock: Path) -> None:
    assert lock_faults(lock.read_text("utf-8")) == []


def test_there_is_a_lock_for_every_installation() -> None:
    assert {lock.name for lock in LOCKS} >= {"build.txt", "dev.txt", "runtime.txt", "semantic.txt"}


def test_what_is_tested_is_what_runs() -> None:
    runtime, semantic, dev = (
        set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / name).read_text("utf-8"), re.MULTILINE))
        for name in ("runtime.txt", "semantic.txt", "dev.txt")
    )
    assert runtime < semantic < dev


def test_installation_checks_hashes_and_runs_no_code() -> None:
    setup = (ROOT / "scripts" / "setup").read_text("utf-8")
    installs = [line for line in setup.splitlines() if "pip install" in line]
    assert installs
    for line in installs:
        assert ("--require-hashes" in line and "--only-binary :all:" in line) or "--no-index -e ." in line


def test_no_unknown_code_runs_at_the_start_of_python() -> None:
    if sys.prefix == sys.base_prefix or not (Path(sys.prefix) / "installed-dev").is_file():
        pytest.skip("not the environment that scripts/setup made")
    found = [path.name for folder in site.getsitepackages() for path in Path(folder).glob("*.pth")]
    assert [name for name in found if not KNOWN_PTH.match(name)] == []


def test_a_loose_and_an_unhashed_requirement_are_found() -> None:
    good = "a==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:" + "0" * 64 + "\n"
    assert lock_faults(good + "b>=2 \\\n    --hash=sha256:" + "0" * 64 + "\nc==3\n") == ["b>=2", "c==3"]
