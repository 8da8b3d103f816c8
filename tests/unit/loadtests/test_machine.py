"""Cores and process figures."""

import os

import pytest

from loadtests import machine
from loadtests.machine import Cores


@pytest.mark.parametrize(
    ("available", "expected", "isolated"),
    [
        ([0], Cores((0,), (0,), (0,), (0,)), False),
        ([0, 1], Cores((1,), (0,), (0,), (0,)), True),
        ([0, 1, 2], Cores((2,), (1,), (0,), (1,)), True),
        ([3, 1, 0, 2], Cores((3,), (2,), (0,), (1, 2)), True),
    ],
)
def test_the_server_has_a_core_of_its_own_when_there_are_two(
    available: list[int], expected: Cores, isolated: bool
) -> None:
    assert machine.plan_cores(available) == expected
    assert machine.plan_cores(available).isolated is isolated


def test_a_command_name_with_spaces_and_parentheses_is_read() -> None:
    fields = ["S", "41", *["0"] * 9, "150", "50", *["0"] * 8, "1000", *["0"] * 20]
    stat = machine.parse_stat(f"42 (a b) c) {' '.join(fields)}\n")
    assert (stat.pid, stat.parent) == (42, 41)
    assert stat.cpu_s == 200 * machine.TICK_S


def test_resident_memory_is_the_24th_field() -> None:
    fields = ["S", "41", *["0"] * 19, "3", *["0"] * 20]
    assert machine.parse_stat(f"42 (x) {' '.join(fields)}").rss_bytes == 3 * machine.PAGE_BYTES


def test_this_process_is_in_its_own_family() -> None:
    assert os.getpid() in [process.pid for process in machine.family(os.getpid())]
    assert machine.rss_bytes(os.getpid()) > 1 << 20
    assert machine.cpu_s(os.getpid()) > 0


def test_a_process_that_is_gone_has_no_family() -> None:
    assert machine.family(2**22 + 1) == []


def test_a_free_port_is_a_port() -> None:
    assert 1024 <= machine.free_port() < 65536


def test_the_machine_is_described_in_one_line() -> None:
    assert "cores, Python 3." in machine.describe()
