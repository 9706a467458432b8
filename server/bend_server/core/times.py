"""Unix microseconds as text, without the datetime module that the core may not read."""

_DAY_US = 86_400_000_000


def rfc3339(time_us: int) -> str:
    """Return a time as RFC 3339 in UTC, with microseconds when there are any.

    Args:
        time_us: Unix microseconds, 0 to the year 9999.

    Source: days to civil date by Howard Hinnant, "chrono-compatible low-level date algorithms".
    """
    days, rest_us = divmod(time_us, _DAY_US)
    days += 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    seconds, micros = divmod(rest_us, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
    return f"{text}.{micros:06d}Z" if micros else f"{text}Z"
