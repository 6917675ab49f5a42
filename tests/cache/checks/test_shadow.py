"""Which hits are asked anyway, and when a tier that disagrees goes off and comes back."""

from random import Random

import pytest

from sidecar.cache.checks.shadow import MAX_ROUTES, MIN_CHECKS, OTHER, WINDOW, Shadow, Standing, wilson

LIMIT = 0.1


class Bench:
    """A Shadow, and the switches it told of."""

    def __init__(self, share: float = 0.01, limit: float = LIMIT) -> None:
        self.switches: list[tuple[str, str, bool, float, int]] = []
        self.shadow = Shadow(share, limit, lambda *switch: self.switches.append(switch))

    def note(self, agreed: int = 0, disagreed: int = 0, route: str = "auto", tier: str = "semantic") -> None:
        """First the checks that disagreed, then those that agreed."""
        for index in range(disagreed + agreed):
            self.shadow.note(route, tier, index >= disagreed)

    def is_on(self, route: str = "auto", tier: str = "semantic") -> bool:
        return self.shadow.is_on(route, tier)


def drawn(shadow: Shadow, hits: int, tier: str = "exact", route: str = "auto") -> int:
    return sum(shadow.wants(route, tier) for _ in range(hits))


# --- which hits are drawn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.003, 0.01, 0.25, 0.5])
def test_draws_its_share_and_spreads_it_evenly(share: float) -> None:
    shadow = Bench(share).shadow
    for _ in range(20):
        assert drawn(shadow, 1000) == pytest.approx(1000 * share, abs=3)


def test_a_share_of_0_draws_none_and_of_1_every_hit() -> None:
    assert drawn(Bench(0).shadow, 1000) == 0
    assert drawn(Bench(1).shadow, 1000) == 1000


@pytest.mark.parametrize("period", [2, 3, 5, 8, 10, 100])
def test_routes_that_take_turns_are_drawn_alike(period: int) -> None:
    shadow = Bench(0.1).shadow
    counts = [0] * period
    for hit in range(1000 * period):
        counts[hit % period] += shadow.wants(f"route {hit % period}", "exact")
    assert min(counts) > 80
    assert max(counts) < 120


def test_each_tier_is_drawn_by_itself() -> None:
    alone, mixed = Bench(0.1).shadow, Bench(0.1).shadow
    expected = [alone.wants("auto", "semantic") for _ in range(200)]
    found = []
    for hit in range(200):
        drawn(mixed, hit % 7)
        found.append(mixed.wants("auto", "semantic"))
    assert found == expected


# --- off ------------------------------------------------------------------------------------------------


def test_goes_off_at_the_check_that_puts_it_above_the_limit_and_says_so_once() -> None:
    bench = Bench()
    bench.note(agreed=7)
    bench.note(disagreed=2)
    assert bench.is_on()
    bench.note(disagreed=1)
    assert not bench.is_on()
    bench.note(disagreed=50)
    assert bench.switches == [("auto", "semantic", False, 0.3, 10)]


def test_a_few_checks_are_no_verdict() -> None:
    bench = Bench()
    bench.note(disagreed=MIN_CHECKS - 1)
    assert bench.is_on()
    bench.note(disagreed=1)
    assert not bench.is_on()


def test_a_share_above_the_limit_by_chance_only_is_no_verdict() -> None:
    bench = Bench()
    bench.note(disagreed=2, agreed=10)  # 17 %, perhaps 5 % in truth
    assert bench.is_on()
    assert bench.switches == []


def test_only_the_tier_of_that_route_goes_off() -> None:
    bench = Bench()
    bench.note(disagreed=MIN_CHECKS)
    assert not bench.is_on()
    assert bench.is_on(tier="canonical")
    assert bench.is_on(route="fast")


def test_old_agreement_does_not_hide_new_disagreement() -> None:
    bench = Bench()
    bench.note(agreed=100 * WINDOW)
    bench.note(disagreed=WINDOW // 4)
    assert not bench.is_on()


def test_every_hit_of_what_is_off_is_asked_and_the_rest_as_before() -> None:
    bench = Bench(0.1)
    bench.note(disagreed=MIN_CHECKS)
    assert drawn(bench.shadow, 1000, "semantic") == 1000
    assert drawn(bench.shadow, 1000, "semantic", route="fast") == pytest.approx(100, abs=3)
    assert drawn(bench.shadow, 1000, "exact") == pytest.approx(100, abs=3)


@pytest.mark.parametrize(("share", "goes_off"), [(0.02, False), (0.05, False), (0.2, True), (0.5, True)])
def test_of_many_checks_it_judges_right(share: float, goes_off: bool) -> None:
    for seed in range(10):
        bench, random = Bench(), Random(seed)
        for _ in range(500):
            bench.note(disagreed=1) if random.random() < share else bench.note(agreed=1)
        assert bench.is_on() is not goes_off
        assert len(bench.switches) == goes_off


def test_a_limit_of_0_takes_one_disagreement_and_a_limit_of_1_any_number() -> None:
    none, all_ = Bench(limit=0), Bench(limit=1)
    none.note(agreed=1000)
    all_.note(disagreed=1000)
    assert none.is_on()
    assert all_.is_on()
    none.note(disagreed=1)
    assert not none.is_on()
    none.note(agreed=1000)
    assert not none.is_on()


# --- and on again ---------------------------------------------------------------------------------------


def test_comes_back_when_it_surely_agrees_and_says_so_once() -> None:
    bench = Bench()
    bench.note(disagreed=MIN_CHECKS)
    bench.note(agreed=34)
    assert not bench.is_on()
    bench.note(agreed=1)
    assert bench.is_on()
    bench.note(agreed=100)
    assert bench.switches == [("auto", "semantic", False, 1.0, 10), ("auto", "semantic", True, 0.0, 35)]


def test_what_put_it_off_does_not_do_so_twice() -> None:
    bench = Bench()
    bench.note(disagreed=MIN_CHECKS)
    bench.note(agreed=35)
    bench.note(disagreed=1)
    assert bench.is_on()
    bench.note(disagreed=MIN_CHECKS)
    assert not bench.is_on()


def test_one_that_is_as_bad_as_the_limit_stays_what_it_is() -> None:
    on, off = Bench(), Bench()
    off.note(disagreed=MIN_CHECKS)
    for _ in range(50):
        for bench in (on, off):
            bench.note(agreed=9)
            bench.note(disagreed=1)
    assert on.is_on()
    assert not off.is_on()
    assert len(on.switches) + len(off.switches) == 1


def test_a_reset_switches_on_and_forgets() -> None:
    bench = Bench()
    bench.note(disagreed=MIN_CHECKS + 3)
    bench.shadow.reset("auto", "semantic")
    assert bench.is_on()
    assert bench.switches[1:] == [("auto", "semantic", True, 1.0, 3)]
    bench.note(disagreed=MIN_CHECKS - 1)
    bench.shadow.reset("auto", "semantic")
    bench.note(disagreed=MIN_CHECKS - 1)
    assert bench.is_on()
    assert len(bench.switches) == 2


def test_a_reset_of_what_was_never_checked_is_nothing() -> None:
    bench = Bench()
    bench.shadow.reset("auto", "semantic")
    assert bench.switches == []
    assert bench.shadow.report() == []


def test_a_reset_right_after_a_switch_has_no_share() -> None:
    bench = Bench()
    bench.note(disagreed=MIN_CHECKS)
    bench.shadow.reset("auto", "semantic")
    assert bench.switches[-1] == ("auto", "semantic", True, 0.0, 0)


def test_another_configuration_switches_all_on_the_same_one_none() -> None:
    bench = Bench(0.01)
    bench.note(disagreed=MIN_CHECKS)
    bench.shadow.configure(0.01, LIMIT)
    assert not bench.is_on()
    bench.shadow.configure(0, LIMIT)
    assert bench.is_on()
    assert drawn(bench.shadow, 1000, "semantic") == 0
    assert [switch[2] for switch in bench.switches] == [False, True]


# --- what it tells, and its bounds --------------------------------------------------------------------------


def test_reports_all_checks_by_route_and_tier_also_those_before_a_switch() -> None:
    bench = Bench()
    bench.note(disagreed=MIN_CHECKS, agreed=5)
    bench.note(agreed=2, tier="exact")
    bench.note(agreed=1, disagreed=1, route="a")
    assert bench.shadow.report() == [
        Standing("a", "semantic", 2, 1, True),
        Standing("auto", "exact", 2, 0, True),
        Standing("auto", "semantic", 15, 10, False),
    ]


def test_routes_beyond_the_bound_are_judged_together() -> None:
    bench = Bench()
    for index in range(3 * MAX_ROUTES):
        bench.note(disagreed=1, route=f"route {index}")
    report = bench.shadow.report()
    assert len(report) == MAX_ROUTES + 1
    assert Standing(OTHER, "semantic", 2 * MAX_ROUTES, 2 * MAX_ROUTES, False) in report
    assert not bench.is_on(route="a new one")
    assert bench.is_on(route="route 7")
    assert [switch[0] for switch in bench.switches] == [OTHER]
    bench.shadow.reset("a new one", "semantic")
    assert bench.is_on(route="another new one")


def test_looking_counts_nothing() -> None:
    bench = Bench()
    for index in range(3 * MAX_ROUTES):
        bench.shadow.wants(f"route {index}", "exact")
        bench.shadow.is_on(f"route {index}", "exact")
    bench.note(disagreed=1, route="last")
    assert [standing.route for standing in bench.shadow.report()] == ["last"]


@pytest.mark.parametrize(
    ("marked", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (20, 200, 0.0657, 0.1494)],
)
def test_the_interval_is_wilsons(marked: int, total: int, low: float, high: float) -> None:
    assert wilson(marked, total) == pytest.approx((low, high), abs=1e-4)
    assert wilson(total - marked, total) == pytest.approx((1 - high, 1 - low), abs=1e-4)


def test_the_interval_of_none_and_of_all_ends_at_0_and_1_exactly() -> None:
    for total in range(1, WINDOW + 1):
        assert wilson(0, total)[0] == 0.0
        assert wilson(total, total)[1] == 1.0
