"""The torture at a size for every day, and its judges: each kind of damage has to be seen."""

import pytest

from tests.faults.torture import disconnects, events, failover
from tests.faults.torture.peers import STREAM_HEAD, chunk, events_of
from tests.faults.torture.report import Report, percentile_ms

ROLE, *TOLD = events_of(7, events.WORDS)
ERROR = (
    b'data: {"error":{"message":"It broke off.","type":"api_error","param":null,"code":"upstream_cut"}}\n\n'
)
REFUSED = (
    b'{"error":{"message":"None is left.","type":"api_error","param":null,"code":"no_healthy_upstream"}}'
)
LAST = b"0\r\n\r\n"


def sent(*said: bytes, end: bytes = b"") -> bytes:
    return b"".join([STREAM_HEAD, *(chunk(event) for event in said), end])


async def test_whoever_leaves_is_let_go_of() -> None:
    report = await disconnects.run(20)
    assert report.case.failures == []
    assert len(report.rows) == len(disconnects.PHASES)


async def test_events_are_whole_or_the_caller_is_told() -> None:
    report = await events.run(15_000)
    assert report.case.failures == []


async def test_one_move_is_all_it_takes() -> None:
    report = await failover.run(15)
    assert report.case.failures == []


@pytest.mark.parametrize("is_resumed", [False, True])
def test_what_is_right_and_what_is_honest(is_resumed: bool) -> None:
    def judged(data: bytes) -> tuple[str, int]:
        return events.judge(data, 7, is_resumed=is_resumed)

    assert judged(sent(ROLE, *TOLD, end=LAST)) == ("whole", events.WORDS)
    assert judged(sent(ROLE, *TOLD[:-1], end=LAST)) == ("whole", events.WORDS)  # complete without [DONE]
    assert judged(sent(ROLE, *TOLD[:5], ERROR)) == ("error", 5)
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: %d\r\n\r\n" % len(REFUSED)
    assert judged(head + REFUSED) == ("refused", 0)


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"", "0 answers"),
        (b"nonsense\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "an error without its object"),
        (sent(ROLE, *TOLD[:9], *TOLD[10:], end=LAST), "words lost"),
        (sent(ROLE, *TOLD[:9], *TOLD[8:], end=LAST), "words twice"),
        (sent(ROLE, *TOLD[:9], TOLD[10], TOLD[9], *TOLD[11:], end=LAST), "words out of order"),
        (sent(ROLE, *TOLD[:9], *events_of(8, 20)[10:], end=LAST), "words of another stream"),
        (sent(ROLE, *TOLD[:9], end=LAST), "a beginning without an error"),
        (sent(ROLE, *TOLD[:9]), "a beginning without an error"),
        (sent(ROLE, *TOLD[:9], TOLD[9][:20], end=LAST), "an event that is no JSON"),
        (sent(ROLE, *TOLD[:9], TOLD[-1], end=LAST), "other bytes than the provider's"),
        (sent(ROLE, *TOLD[:-2], end=LAST), "a beginning without an error"),
        (sent(ROLE, *TOLD), "whole without its end"),
        (sent(ROLE, *TOLD[:9], ERROR, end=LAST), "an error that looks like an end"),
        (sent(ROLE, *TOLD[:9], ERROR[:-9]), "an error that looks like an end"),
        (sent(*TOLD, end=LAST), "other bytes than the provider's"),
    ],
)
def test_damage_is_seen(data: bytes, outcome: str) -> None:
    assert events.judge(data, 7, is_resumed=False)[0] == outcome


def test_a_report_says_what_was_missed() -> None:
    report = Report("Speed", "what", "p99")
    report.add("walking", "7.0 ms")
    assert "✗ missed" in str(report)  # nothing was checked
    report.case.at_most("walking: p99", 7.0, 20.0, unit=" ms", timed=True)
    assert str(report).splitlines() == [
        "Speed",
        "",
        "  what         p99",
        "  walking   7.0 ms",
        "  ✓ all met",
    ]
    report.case.equal("falls", 1, 0)
    assert str(report).splitlines()[-2:] == ["  ✗ falls: 1 (target 0)", "  ✗ missed"]


def test_percentiles_are_of_sorted_times() -> None:
    times = [0.001 * number for number in range(100, 0, -1)]
    assert percentile_ms(times, 0.5) == pytest.approx(51.0)
    assert percentile_ms(times, 1.0) == pytest.approx(100.0)
    assert percentile_ms([], 0.99) == 0.0
