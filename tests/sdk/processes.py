"""Client programs that run beside the gateway under test."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left behind."""

    code: int
    out: bytes
    err: bytes


def program(name: str) -> str:
    """Where `name` is installed; skips the test when it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


async def run(*command: str, timeout_s: float = 20.0, cwd: Path | None = None) -> Finished:
    """Run a program to its end, while this process goes on serving. Kills it and raises TimeoutError when late."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Finished(process.returncode, out, err)
