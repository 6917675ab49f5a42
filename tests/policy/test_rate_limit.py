"""Limits per caller: exact, settled, bounded, and said as OpenAI's API says them."""

import random

import orjson
import pytest

from sidecar.config.model import Config
from sidecar.exchange import Reply
from sidecar.fleet.leases import Leases
from sidecar.policy.callers import SHARED_BUCKET, Caller
from sidecar.policy.rate_limit import LOOKED_AT, MAX_STRANGERS, Admission, Limiter, TokenBucket, duration
from tests.config.support import config_of
from tests.policy.support import (
    FORWARDING,
    NOW_S,
    admitted,
    bearer,
    callers_of,
    head,
    keys,
    listed,
    tiers_config,
)
from tests.support.redis import fleet_of

START_S = 1000.0
REQUESTS = tiers_config("standard: {requests_per_minute: 60, burst: 3}")
TOKENS = tiers_config("standard: {tokens_per_minute: 6000}")
BOTH = tiers_config("standard: {requests_per_minute: 60, tokens_per_minute: 6000}")


def stranger(name: str, tier: str = "standard") -> Caller:
    return Caller("team", tier, 0, f"credential:{name}")


ANN, BOB = stranger("ann"), stranger("bob")


def admit(limiter: Limiter, tokens: int = 0, now_s: float = START_S, caller: Caller = ANN) -> Admission:
    admission = limiter.admit(caller, tokens, now_s)
    assert admission is not None
    return admission


def refusal(admission: Admission) -> Reply:
    assert admission.refusal is not None
    return admission.refusal


def let_in(limiter: Limiter, caller: Caller = ANN, now_s: float = START_S, most: int = 10_000) -> int:
    """How many requests in a row are let in."""
    return next((n for n in range(most) if admit(limiter, 0, now_s, caller).refusal is not None), most)


def message_of(reply: Reply) -> str:
    message: str = orjson.loads(reply.body)["error"]["message"]
    return message


# --- requests --------------------------------------------------------------------------------------------


def test_without_limits_there_is_nothing_to_admit() -> None:
    assert Limiter(tiers_config("")).admit(Caller("t", "", 0, SHARED_BUCKET), 10**9, START_S) is None
    assert Limiter(tiers_config("standard: {priority: 1}")).admit(ANN, 10**9, START_S) is None


def test_the_limit_is_exact_and_each_caller_has_its_own() -> None:
    limiter = Limiter(REQUESTS)
    assert let_in(limiter) == 3
    assert let_in(limiter, BOB) == 3
    assert let_in(limiter, now_s=START_S + 0.999) == 0
    assert let_in(limiter, now_s=START_S + 1.0) == 1
    assert let_in(limiter, now_s=START_S + 60.0) == 3


def test_the_burst_is_a_minute_of_requests_where_nothing_is_said() -> None:
    assert let_in(Limiter(tiers_config("standard: {requests_per_minute: 50}"))) == 50


def test_limits_are_exact_to_one_request_whoever_calls_in_between() -> None:
    """20 callers in a random order, over clocks that differ by call: each gets what it would have alone."""
    source = random.Random(5)
    limiter = Limiter(REQUESTS)
    alone = {name: Limiter(REQUESTS) for name in range(20)}
    now_s, limited = START_S, 0
    for _ in range(5000):
        now_s += source.random() * 0.05
        name = source.randrange(20)
        together = admit(limiter, 0, now_s, stranger(str(name)))
        apart = admit(alone[name], 0, now_s)
        assert together.wait_s == apart.wait_s
        limited += apart.refusal is not None
    assert limiter.counts["standard"].limited == limited > 100


def test_a_refused_request_is_told_when_to_come_again_and_then_gets_in() -> None:
    limiter = Limiter(REQUESTS)
    let_in(limiter)
    admission = admit(limiter, now_s=START_S + 0.25)
    reply = refusal(admission)
    assert admission.wait_s == 0.75
    assert (reply.status, reply.code, reply.flag) == (429, "rate_limit_exceeded", "RL")
    assert reply.lines == [
        b"retry-after: 1",
        b"retry-after-ms: 750",
        b"x-ratelimit-limit-requests: 3",
        b"x-ratelimit-remaining-requests: 0",
        b"x-ratelimit-reset-requests: 2.75s",
    ]
    assert message_of(reply) == (
        "Rate limit reached for requests: tier standard allows 60 per minute, 3 at once."
        " Try again in 750ms, or use a key of a tier with a higher limit."
    )
    assert admit(limiter, now_s=START_S + 0.25 + admission.wait_s).refusal is None


# --- tokens ----------------------------------------------------------------------------------------------


def test_tokens_are_reserved_and_what_was_not_used_goes_back() -> None:
    limiter = Limiter(TOKENS)
    first = admit(limiter, 6000)
    assert admit(limiter, 1).refusal is not None
    first.settle(500, START_S)
    assert admit(limiter, 5500).refusal is None
    assert admit(limiter, 1).refusal is not None


def test_more_than_was_reserved_is_owed() -> None:
    limiter = Limiter(TOKENS)
    admit(limiter, 100).settle(6100, START_S)
    assert admit(limiter, 0).wait_s == 1.0
    assert admit(limiter, 100, START_S + 1.99).refusal is not None
    assert admit(limiter, 100, START_S + 2.0).refusal is None


def test_a_request_is_settled_once() -> None:
    limiter = Limiter(TOKENS)
    other, twice = admit(limiter, 3000), admit(limiter, 3000)
    for _ in range(3):
        twice.settle(0, START_S)
    assert b"x-ratelimit-remaining-tokens: 3000" in other.lines(START_S)


def test_a_request_that_is_never_settled_stays_at_what_it_reserved() -> None:
    limiter = Limiter(TOKENS)
    admit(limiter, 6000)
    assert admit(limiter, 3000, START_S + 29.99).refusal is not None
    assert admit(limiter, 3000, START_S + 30.0).refusal is None


def test_figures_that_cannot_be_do_not_fill_a_bucket_or_close_it_for_ever() -> None:
    limiter = Limiter(TOKENS)
    admit(limiter, 100).settle(-(10**12), START_S)
    assert b"x-ratelimit-remaining-tokens: 6000" in admit(limiter, 0).lines(START_S)
    admit(limiter, 100).settle(10**18, START_S)
    assert admit(limiter, 0).wait_s <= 600.0


def test_a_refused_request_takes_nothing() -> None:
    limiter = Limiter(BOTH)
    held = admit(limiter, 6000)
    for _ in range(100):
        admit(limiter, 1).settle(0, START_S)
    assert held.lines(START_S)[1] == b"x-ratelimit-remaining-requests: 59"
    held.settle(0, START_S)
    assert held.lines(START_S)[4] == b"x-ratelimit-remaining-tokens: 6000"


def test_the_limit_that_takes_longest_is_named() -> None:
    limiter = Limiter(BOTH)
    held = [admit(limiter, 100) for _ in range(60)]
    assert "Rate limit reached for requests" in message_of(refusal(admit(limiter, 50)))
    reply = refusal(admit(limiter, 300))
    assert message_of(reply) == (
        "Rate limit reached for tokens: tier standard allows 6000 per minute, and this request may use 300."
        " Try again in 3s, lower max_tokens or shorten the input, or use a key of a tier with a higher limit."
    )
    assert b"retry-after: 3" in reply.lines
    assert held[0].lines(START_S) == [
        b"x-ratelimit-limit-requests: 60",
        b"x-ratelimit-remaining-requests: 0",
        b"x-ratelimit-reset-requests: 1m0s",
        b"x-ratelimit-limit-tokens: 6000",
        b"x-ratelimit-remaining-tokens: 0",
        b"x-ratelimit-reset-tokens: 1m0s",
    ]


def test_a_request_that_can_never_fit_is_told_so_and_not_to_come_again() -> None:
    limiter = Limiter(BOTH)
    admission = admit(limiter, 6001)
    reply = refusal(admission)
    assert reply.status == 429
    assert "may use 6001, so it never fits; lower max_tokens" in message_of(reply)
    assert b"x-should-retry: false" in reply.lines
    assert not any(line.startswith(b"retry-after") for line in reply.lines)
    assert admit(limiter, 6000).refusal is None


# --- dry run ---------------------------------------------------------------------------------------------


def test_a_dry_run_lets_everything_in_and_counts_what_it_would_have_refused() -> None:
    tiers = "standard: {requests_per_minute: 60, burst: 3, tokens_per_minute: 100, dry_run: true}"
    limiter = Limiter(tiers_config(tiers))
    admissions = [admit(limiter) for _ in range(5)]
    assert [admission.refusal for admission in admissions] == [None] * 5
    assert [admission.is_over for admission in admissions] == [False] * 3 + [True] * 2
    counts = limiter.counts["standard"]
    assert (counts.limited, counts.would_limit) == (0, 2)
    never = admit(limiter, 101)
    never.settle(10**9, START_S)
    assert (never.refusal, never.is_over) == (None, True)
    assert b"x-ratelimit-remaining-tokens: 100" in never.lines(START_S)


def test_outcomes_are_counted_by_tier() -> None:
    limiter = Limiter(tiers_config("standard: {requests_per_minute: 2}, pro: {requests_per_minute: 3}"))
    for _ in range(5):
        admit(limiter)
        admit(limiter, caller=stranger("p", "pro"))
    got = {tier: (c.limited, c.would_limit) for tier, c in limiter.counts.items()}
    assert got == {"standard": (3, 0), "pro": (2, 0)}


# --- memory ----------------------------------------------------------------------------------------------


def test_memory_is_bounded_under_a_flood_of_made_up_keys() -> None:
    limiter = Limiter(REQUESTS)
    for number in range(100_000):
        admit(limiter, 0, START_S + number * 1e-6, stranger(str(number)))
    assert len(limiter._strangers) == MAX_STRANGERS


def test_made_up_keys_drive_out_neither_listed_keys_nor_the_shared_caller() -> None:
    text = f"{FORWARDING}tiers: {{standard: {{requests_per_minute: 60, burst: 3}}}}\n"
    callers = callers_of(text + keys(listed("sk-a"), mode="passthrough"))
    config = config_of(text + keys(listed("sk-a"), mode="passthrough"))
    limiter = Limiter(config)
    safe = [admitted(callers.identify(made, NOW_S)) for made in (bearer("sk-a"), head())]
    assert [let_in(limiter, caller) for caller in safe] == [3, 3]
    for number in range(MAX_STRANGERS + 1):
        admit(limiter, 0, START_S, stranger(str(number)))
    assert [let_in(limiter, caller) for caller in safe] == [0, 0]


def test_who_is_full_again_goes_before_who_is_not() -> None:
    limiter = Limiter(TOKENS)
    admit(limiter, 6000)  # ann, the first to go by age
    admit(limiter, 1, START_S, BOB)
    for number in range(MAX_STRANGERS - 2):
        admit(limiter, 6000, START_S, stranger(str(number)))
    admit(limiter, 1, START_S + 1.0, stranger("new"))
    assert len(limiter._strangers) == MAX_STRANGERS
    assert admit(limiter, 6000, START_S + 1.0).refusal is not None
    assert BOB.bucket not in limiter._strangers


def test_who_comes_back_after_it_was_driven_out_has_one_full_bucket() -> None:
    limiter = Limiter(REQUESTS)
    assert let_in(limiter) == 3
    for number in range(MAX_STRANGERS - 1):
        let_in(limiter, stranger(str(number)))
    assert let_in(limiter) == 0  # seen again: now the youngest
    for number in range(MAX_STRANGERS):
        let_in(limiter, stranger(f"more-{number}"))
    assert ANN.bucket not in limiter._strangers
    assert let_in(limiter) == 3


def test_settling_after_being_driven_out_harms_nobody() -> None:
    limiter = Limiter(TOKENS)
    held = admit(limiter, 6000)
    for number in range(MAX_STRANGERS + LOOKED_AT):
        admit(limiter, 6000, START_S, stranger(str(number)))
    assert admit(limiter, 6000).refusal is None
    held.settle(0, START_S)
    assert admit(limiter, 1).refusal is not None


# --- reload ----------------------------------------------------------------------------------------------


def reloaded(limiter: Limiter, config: Config) -> Limiter:
    limiter.configure(config)
    return limiter


def test_a_reload_of_the_same_figures_gives_nothing() -> None:
    limiter = Limiter(REQUESTS)
    let_in(limiter)
    assert let_in(reloaded(limiter, REQUESTS)) == 0


def test_a_reload_gives_a_verified_caller_that_no_file_lists_nothing() -> None:
    account = Caller("team", "standard", 0, "sa:payments/checkout")
    account.id = "sa:payments/checkout"
    limiter = Limiter(REQUESTS)
    let_in(limiter, account)
    assert let_in(reloaded(limiter, REQUESTS), account) == 0


def test_a_reload_keeps_the_share_that_is_left_and_the_counts() -> None:
    limiter = Limiter(tiers_config("standard: {requests_per_minute: 10}"))
    for _ in range(5):
        admit(limiter)
    assert let_in(limiter, BOB) == 10
    reloaded(limiter, tiers_config("standard: {requests_per_minute: 100}"))
    assert let_in(limiter) == 50
    assert limiter.counts["standard"].limited == 2  # one before, and one after


def test_limits_come_and_go_with_a_reload() -> None:
    limiter = Limiter(REQUESTS)
    held = admit(limiter, 5)
    reloaded(limiter, TOKENS)
    assert admit(limiter, 6000).refusal is None
    reloaded(limiter, tiers_config(""))
    assert limiter.admit(ANN, 10**9, START_S) is None
    held.settle(10**9, START_S)
    assert let_in(reloaded(limiter, REQUESTS)) == 3


def test_a_request_reserved_before_a_reload_is_settled_after_it() -> None:
    limiter = Limiter(TOKENS)
    held = admit(limiter, 6000)
    reloaded(limiter, tiers_config("standard: {tokens_per_minute: 600}"))
    assert admit(limiter, 600).refusal is not None
    held.settle(0, START_S)
    assert admit(limiter, 600).refusal is None


def test_a_key_that_is_gone_leaves_no_bucket_behind() -> None:
    text = f"{FORWARDING}tiers: {{standard: {{requests_per_minute: 60}}}}\n"
    config = config_of(text + keys(listed("sk-a"), listed("sk-b"), mode="passthrough"))
    callers = callers_of(text + keys(listed("sk-a"), listed("sk-b"), mode="passthrough"))
    limiter = Limiter(config)
    for key in ("sk-a", "sk-b"):
        admit(limiter, caller=admitted(callers.identify(bearer(key), NOW_S)))
    reloaded(limiter, config_of(text + keys(listed("sk-b"), mode="passthrough")))
    assert list(limiter._named) == ["key:sk-b"]


# --- how times are written -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"0s"),
        (5e-10, b"0s"),
        (0.0001, b"1ms"),
        (0.12, b"120ms"),
        (0.9999, b"1s"),
        (1.0, b"1s"),
        (1.1, b"1.1s"),
        (8.64, b"8.64s"),
        (59.9999, b"1m0s"),
        (90.951, b"1m30.951s"),
        (360.0, b"6m0s"),
        (3600.0, b"1h0m0s"),
        (90061.5, b"25h1m1.5s"),
    ],
)
def test_times_are_written_as_openai_writes_them(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text


# --- peeking ---------------------------------------------------------------------------------------------


def peek(limiter: Limiter, tokens: int = 0, now_s: float = START_S, caller: Caller = ANN) -> Admission:
    seen = limiter.peek(caller, tokens, now_s)
    assert seen is not None
    return seen


def test_a_peek_says_what_the_next_request_would_be_told_and_takes_nothing() -> None:
    limiter = Limiter(tiers_config("standard: {requests_per_minute: 60, burst: 2, tokens_per_minute: 6000}"))
    for left in (2, 1, 0):
        for _ in range(100):
            seen = peek(limiter, 1000)
            assert (seen.figures(START_S)["requests"].remaining, seen.is_over) == (left, not left)
        said = admit(limiter, 1000)
        assert seen.is_over == said.is_over
    assert limiter.counts["standard"].limited == 1
    assert refusal(seen).body == refusal(said).body
    assert refusal(seen).lines == refusal(said).lines


def test_a_peek_names_the_tokens_that_will_never_be_there() -> None:
    seen = peek(Limiter(TOKENS), 6001)
    assert "this request may use 6001" in message_of(refusal(seen))


def test_a_peek_in_a_dry_run_is_over_without_a_refusal_and_not_counted() -> None:
    limiter = Limiter(tiers_config("standard: {requests_per_minute: 60, burst: 1, dry_run: true}"))
    admit(limiter)
    seen = peek(limiter)
    assert seen.is_over and seen.refusal is None
    assert limiter.counts["standard"].would_limit == 0


def test_a_peek_opens_no_buckets_and_gives_none_new_figures() -> None:
    limiter = Limiter(REQUESTS)
    peek(limiter, caller=BOB)
    assert not limiter._strangers
    assert let_in(limiter) == 3
    buckets = limiter._strangers[ANN.bucket]
    limiter.configure(tiers_config("standard: {requests_per_minute: 60, burst: 6}"))
    assert peek(limiter, now_s=START_S + 1).figures(START_S + 1)["requests"].limit == 6
    assert buckets.requests is not None and buckets.requests.capacity == 3
    assert limiter.peek(Caller("t", "", 0, SHARED_BUCKET), 0, START_S) is None


# --- in a fleet ------------------------------------------------------------------------------------------


def fleet_limiter(config: Config, *, is_local: bool = False) -> Limiter:
    """Of a fleet of one sidecar that Redis has leased nothing yet; cut off from it where it is local."""
    leases = Leases(fleet_of("redis://127.0.0.1:1", expected=1))
    leases._standing.is_local = is_local
    return Limiter(config, leases.bucket)


def test_a_fleets_buckets_are_named_for_the_limit_and_the_caller() -> None:
    names = []
    leases = Leases(fleet_of("redis://127.0.0.1:1"))

    def bucket(key: str, rate: int, capacity: int) -> TokenBucket:
        names.append((key, rate, capacity))
        return leases.bucket(key, rate, capacity)

    limiter = Limiter(
        tiers_config("standard: {requests_per_minute: 60, burst: 3, tokens_per_minute: 9}"), bucket
    )
    for _ in range(2):
        limiter.admit(ANN, 1, START_S)
    assert names == [("req:credential:ann", 60, 3), ("tok:credential:ann", 9, 9)]


def test_cut_off_from_redis_the_local_share_is_the_limit() -> None:
    limiter = fleet_limiter(REQUESTS, is_local=True)
    assert let_in(limiter) == 3
    assert let_in(limiter, now_s=START_S + 1) == 1


def test_what_a_request_lacks_is_wanted_and_what_is_there_is_not() -> None:
    lacking = fleet_limiter(BOTH)
    wants = lacking.wants(ANN, 500, START_S)
    assert [amount for _, amount in wants] == [1, 500]
    assert fleet_limiter(BOTH, is_local=True).wants(ANN, 500, START_S) == []
    assert lacking.wants(stranger("ann", tier=""), 500, START_S) == []
    alone = Limiter(REQUESTS)
    assert alone.wants(ANN, 0, START_S) == []
    assert let_in(alone) == 3
    assert len(alone.wants(ANN, 0, START_S)) == 1


def test_to_look_ahead_in_a_fleet_is_to_look_at_what_the_fleet_has() -> None:
    limiter = fleet_limiter(BOTH)
    assert admit(limiter, 100).refusal is not None  # nothing is leased
    seen = limiter.peek(ANN, 100, START_S)
    assert seen is not None and seen.refusal is None
    too_much = limiter.peek(ANN, 6001, START_S)
    assert too_much is not None and too_much.refusal is not None
    never_seen = limiter.peek(BOB, 100, START_S)
    assert never_seen is not None and never_seen.refusal is None


def test_to_look_ahead_under_a_new_tier_leaves_the_lease_as_it_is() -> None:
    limiter = fleet_limiter(REQUESTS, is_local=True)
    assert let_in(limiter) == 3
    limiter.configure(tiers_config("standard: {requests_per_minute: 60, burst: 6}"))
    seen = limiter.peek(ANN, 0, START_S)
    assert seen is not None and seen.refusal is not None
    assert seen.figures(START_S)["requests"].limit == 6


def test_a_dry_run_is_over_only_where_the_fleet_has_nothing_left() -> None:
    limiter = fleet_limiter(tiers_config("standard: {requests_per_minute: 60, burst: 3, dry_run: true}"))
    said = [admit(limiter).is_over for _ in range(5)]
    assert said == [False, False, False, True, True]
    assert limiter.counts["standard"].would_limit == 2


def test_what_counts_twice_is_owed_where_a_lease_is_used_up() -> None:
    limiter = fleet_limiter(tiers_config("standard: {requests_per_minute: 60, burst: 2, dry_run: true}"))
    admission = admit(limiter)
    admission._buckets.limits.is_dry_run = False
    assert [admission.take_another(START_S) for _ in range(2)] == [True, False]
