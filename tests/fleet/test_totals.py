"""Totals by minute, team and model: added up, bounded, and read back from what is really in Redis."""

from sidecar.fleet.totals import MAX_ROWS, ROWS_PER_BATCH, Total, Totals, read_totals

MINUTE = 29_900_000


def test_what_is_counted_is_added_up_by_minute_team_and_model() -> None:
    totals = Totals()
    totals.add(MINUTE, "a", "m", 1, 100, 5)
    totals.add(MINUTE, "a", "m", 1, 50, 2)
    totals.add(MINUTE + 1, "a", "m", 1, 1, 1)
    assert totals.drain() == [Total(MINUTE, "a", "m", 2, 150, 7), Total(MINUTE + 1, "a", "m", 1, 1, 1)]
    assert not totals


def test_rows_are_sent_some_at_a_time() -> None:
    totals = Totals()
    for number in range(ROWS_PER_BATCH + 1):
        totals.add(MINUTE, "a", f"m{number}", 1, 1, 1)
    assert len(totals.drain()) == ROWS_PER_BATCH
    assert len(totals.drain()) == 1


def test_while_redis_is_away_detail_is_given_up_and_no_token_is_lost() -> None:
    totals = Totals()
    for number in range(MAX_ROWS + 500):
        totals.add(MINUTE + number // 100, "a", f"m{number}", 1, 10, 3)
    assert len(totals) <= MAX_ROWS + 2
    rows = []
    while totals:
        rows += totals.drain()
    assert sum(row.requests for row in rows) == MAX_ROWS + 500
    assert sum(row.tokens for row in rows) == 10 * (MAX_ROWS + 500)


async def test_fields_that_are_not_ours_are_left_out() -> None:
    async def command(*parts: object) -> object:
        if parts[1] != f"sidecar:1:usage:{MINUTE // 60}":
            return 7
        good = b'requests [%d,"a","m"]' % MINUTE
        bad = [b"rubbish", b"1", b"requests {}", b"1", b"tokens [1,2,3]", b"1", good + b"]", b"1"]
        return [good, b"3", good.replace(b"requests", b"visits"), b"1", *bad, good, b"x", good, None, b"odd"]

    since_s = MINUTE * 60.0
    assert await read_totals(command, since_s, since_s + 60) == [Total(MINUTE, "a", "m", 3, 0, 0)]


async def test_a_span_ends_before_its_last_minute() -> None:
    async def command(*parts: object) -> object:
        fields: list[bytes] = []
        hour = int(str(parts[1]).rpartition(":")[2])
        for minute in range(hour * 60, hour * 60 + 60):
            fields += (b'requests [%d,"a","m"]' % minute, b"1")
        return fields

    rows = await read_totals(command, MINUTE * 60.0, (MINUTE + 90) * 60.0)
    assert [row.minute for row in rows] == list(range(MINUTE, MINUTE + 90))
