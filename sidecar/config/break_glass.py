"""What break-glass is told: for how long, and why.

One set of rules for the configuration file, the admin interface, the command line and the state file.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta

from sidecar.config.values import Codec, parse_duration, show_duration

# An emergency measure that nobody ends must end by itself; who needs it longer asks again.
MAX_PERIOD_S = 24 * 3600.0
MAX_REASON = 500


def parse_period(raw: object) -> float:
    """Seconds from a duration of at most 24 h, such as `30m`."""
    seconds = parse_duration(raw)
    if seconds > MAX_PERIOD_S:
        raise ValueError(
            f"{raw} is longer than {show_duration(MAX_PERIOD_S)}, the longest break-glass may be"
        )
    return seconds


def parse_reason(raw: object) -> str:
    """Why, in one line of 1 to 500 printable characters: it goes into logs and onto a page."""
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("expected a reason in a few words: who reads the log should know why")
    if len(raw) > MAX_REASON:
        raise ValueError(f"expected a reason of at most {MAX_REASON} characters: a line, not a report")
    if not raw.isprintable():
        raise ValueError("expected a reason without line ends or control characters: one plain line")
    return raw


REASON = Codec(parse_reason, str, {"type": "string", "minLength": 1, "maxLength": MAX_REASON})

Reason: TypeAlias = Annotated[str, Meta(extra={"codec": REASON})]
