"""Periods of the calendar, in a time zone: what a budget of `$200/day` calls a day.

A period is named by its beginning, and the name is part of a counter's identity. Days, weeks (from
Monday, ISO 8601) and months begin at midnight of the zone, so that one of them a year is an hour
shorter and one longer; hours begin where the zone's clock shows a full one.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

Calendar = Literal["hour", "day", "week", "month"]

_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Period:
    """One hour, day, week or month: from `starts_at_s` on, until before `ends_at_s` (Unix seconds)."""

    name: str
    """`2026-11-21T04:30Z` (hours: their beginning in UTC), `2026-11-21`, `2026-W47`, `2026-11`."""
    starts_at_s: float
    ends_at_s: float


def zone_of(name: str) -> tzinfo:
    """The IANA zone of this name. Raises ZoneInfoNotFoundError; `UTC` is there without a database of zones."""
    return UTC if name == "UTC" else ZoneInfo(name)


def period_at(calendar: Calendar, zone: tzinfo, at_s: float) -> Period:
    """The period that holds the moment `at_s` (Unix seconds)."""
    local = datetime.fromtimestamp(at_s, zone)
    if calendar == "hour":
        return _hour(local, at_s)
    today = local.date()
    if calendar == "day":
        return _period(today.isoformat(), today, today + timedelta(days=1), zone, at_s)
    if calendar == "week":
        year, week, weekday = today.isocalendar()
        monday = today - timedelta(days=weekday - 1)
        return _period(f"{year}-W{week:02d}", monday, monday + timedelta(days=7), zone, at_s)
    first = today.replace(day=1)
    return _period(f"{today:%Y-%m}", first, (first + timedelta(days=31)).replace(day=1), zone, at_s)


def _hour(local: datetime, at_s: float) -> Period:
    # By arithmetic, not by the zone's rules: an hour that the clock shows twice is two hours, and where the clock
    # is moved by half an hour the one begun before is simply left.
    offset = local.utcoffset()
    assert offset is not None
    offset_s = int(offset.total_seconds())
    starts_at_s = (int(at_s) + offset_s) // _HOUR_S * _HOUR_S - offset_s
    name = f"{datetime.fromtimestamp(starts_at_s, UTC):%Y-%m-%dT%H:%MZ}"
    return Period(name, float(starts_at_s), float(starts_at_s + _HOUR_S))


def _period(name: str, first: date, end: date, zone: tzinfo, at_s: float) -> Period:
    ends_at_s = _midnight(end, zone, 0)
    if ends_at_s <= at_s:
        # The clock goes back over midnight, so that the day's last hour comes twice.
        ends_at_s = _midnight(end, zone, 1)
    return Period(name, _midnight(first, zone, 0), ends_at_s)


def _midnight(day: date, zone: tzinfo, fold: int) -> float:
    """Unix seconds at which `day` begins; where the clock skips midnight, the moment at which it does."""
    return datetime.combine(day, time(fold=fold), zone).timestamp()


class Periods:
    """The current period of one calendar and zone, remembered: it is asked for with every request."""

    __slots__ = ("_calendar", "_current", "_zone")

    def __init__(self, calendar: Calendar, zone: str) -> None:
        """Raises ZoneInfoNotFoundError for a zone that this machine does not know."""
        self._calendar = calendar
        self._zone = zone_of(zone)
        self._current = period_at(calendar, self._zone, 0.0)

    def at(self, at_s: float) -> Period:
        """The period of the moment `at_s` (Unix seconds); a clock that is set back gets the earlier one again."""
        current = self._current
        if not current.starts_at_s <= at_s < current.ends_at_s:
            current = self._current = period_at(self._calendar, self._zone, at_s)
        return current
