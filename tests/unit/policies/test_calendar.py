"""Periods of the calendar."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policies.calendar import Calendar, Periods, period_at, zone_of


def at(text: str) -> float:
    """Unix seconds of an ISO moment."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("calendar", "zone", "moment", "name", "starts", "ends"),
    [
        ("hour", "UTC", "2026-11-21T04:59:59Z", "2026-11-21T04:00Z", "2026-11-21T04:00Z", "2026-11-21T05:00Z"),
        ("hour", "Asia/Kolkata", "2026-11-21T04:10Z", "2026-11-21T03:30Z", "2026-11-21T03:30Z", "2026-11-21T04:30Z"),
        ("day", "UTC", "2026-11-21T23:59:59Z", "2026-11-21", "2026-11-21T00:00Z", "2026-11-22T00:00Z"),
        ("day", "Europe/Berlin", "2026-11-21T23:30Z", "2026-11-22", "2026-11-21T23:00Z", "2026-11-22T23:00Z"),
        ("week", "UTC", "2026-11-22T12:00Z", "2026-W47", "2026-11-16T00:00Z", "2026-11-23T00:00Z"),
        ("week", "UTC", "2027-01-01T00:00Z", "2026-W53", "2026-12-28T00:00Z", "2027-01-04T00:00Z"),
        ("month", "UTC", "2026-12-31T23:59Z", "2026-12", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("month", "America/New_York", "2026-12-01T04:59Z", "2026-11", "2026-11-01T04:00Z", "2026-12-01T05:00Z"),
    ],
)
def test_a_moment_lies_in_its_period(
    calendar: Calendar, zone: str, moment: str, name: str, starts: str, ends: str
) -> None:
    period = period_at(calendar, zone_of(zone), at(moment))
    assert (period.name, period.starts_at_s, period.ends_at_s) == (name, at(starts), at(ends))


def test_a_day_is_as_long_as_the_clock_makes_it() -> None:
    berlin = zone_of("Europe/Berlin")
    lengths = [period_at("day", berlin, at(f"{day}T12:00Z")) for day in ("2026-03-29", "2026-10-25", "2026-10-26")]
    assert [(day.ends_at_s - day.starts_at_s) / 3600 for day in lengths] == [23, 25, 24]


def test_an_hour_that_the_clock_shows_twice_is_two_hours() -> None:
    berlin = zone_of("Europe/Berlin")
    first, second = (period_at("hour", berlin, at(f"2026-10-25T0{hour}:30Z")) for hour in (0, 1))
    assert first.name != second.name
    assert first.ends_at_s == second.starts_at_s


def test_a_day_without_a_midnight_begins_when_the_clock_skips_it() -> None:
    cairo = zone_of("Africa/Cairo")
    before, after = (period_at("day", cairo, at(moment)) for moment in ("2026-04-23T21:59Z", "2026-04-23T22:00Z"))
    assert (before.name, after.name) == ("2026-04-23", "2026-04-24")
    assert before.ends_at_s == after.starts_at_s == at("2026-04-23T22:00Z")


def test_a_midnight_that_comes_twice_ends_the_day_that_it_comes_back_to() -> None:
    # Newfoundland set its clocks at a minute past midnight until 2011: 00:01 became 23:01 of the day before.
    period = period_at("day", zone_of("America/St_Johns"), at("2010-11-07T03:00Z"))
    assert period.name == "2010-11-06"
    assert period.ends_at_s == at("2010-11-07T03:30Z")


ZONES = [
    "UTC",
    "Europe/Berlin",
    "Africa/Cairo",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Tehran",
]


@given(
    calendar=st.sampled_from(["hour", "day", "week", "month"]),
    zone=st.sampled_from(ZONES),
    moment=st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1)),
)
def test_every_moment_lies_in_a_period_that_has_not_ended(calendar: Calendar, zone: str, moment: datetime) -> None:
    at_s = moment.replace(tzinfo=UTC).timestamp()
    period = period_at(calendar, zone_of(zone), at_s)
    assert period.starts_at_s <= at_s < period.ends_at_s
    assert period.ends_at_s - period.starts_at_s <= timedelta(days=31, hours=25).total_seconds()


@given(zone=st.sampled_from(ZONES), moment=st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1)))
def test_the_next_period_has_another_name(zone: str, moment: datetime) -> None:
    at_s = moment.replace(tzinfo=UTC).timestamp()
    for calendar in ("hour", "day", "week", "month"):
        period = period_at(calendar, zone_of(zone), at_s)
        assert period_at(calendar, zone_of(zone), period.ends_at_s).name != period.name


def test_the_current_period_is_remembered_and_a_clock_set_back_gets_the_earlier_one() -> None:
    periods = Periods("day", "UTC")
    today = periods.at(at("2026-11-21T10:00Z"))
    assert periods.at(at("2026-11-21T23:59Z")) is today
    assert periods.at(at("2026-11-22T00:00Z")).name == "2026-11-22"
    assert periods.at(at("2026-11-21T23:59Z")) == today


def test_utc_needs_no_database_and_an_unknown_zone_is_an_error() -> None:
    assert zone_of("UTC") is UTC
    assert zone_of("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    with pytest.raises(ZoneInfoNotFoundError):
        Periods("day", "Europe/Atlantis")
