"""The cache's series: right numbers under the names that dashboards ask for, and none without a cache."""

from prometheus_client.parser import text_string_to_metric_families

from sidecar.exchange import CacheNote
from sidecar.telemetry.cache_series import Cache, Checked, Semantic, Shared
from sidecar.telemetry.exposition import Limits, expose
from sidecar.telemetry.metrics import Histogram, Metrics
from tests.support.exchanges import finished

Series = dict[tuple[str, ...], float]
LABELS = ("route", "tier", "result", "detail", "guard", "le")


def scraped(metrics: Metrics, cache: Cache | None) -> dict[str, Series]:
    """Every series of the cache by its name, and by the values of its labels in the order of LABELS."""
    text = expose(metrics, [], {}, Limits({}, {}, 0), cache).decode()
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("sidecar_cache_"):
                labels = tuple(sample.labels[name] for name in LABELS if name in sample.labels)
                assert len(labels) == len(sample.labels)
                found.setdefault(sample.name, {})[labels] = sample.value
    return found


def note(result: str, detail: str = "", saved_nano_usd: int = 0, saved_s: float = 0.0) -> CacheNote:
    made = CacheNote(result, detail, b"")
    made.saved_nano_usd, made.saved_s = saved_nano_usd, saved_s
    return made


def counted() -> Metrics:
    metrics = Metrics("1")
    for route, cache in (
        ("auto", note("hit", "exact", 2_000_000_000, 1.5)),
        ("auto", note("hit", "canonical", 500_000_000, 0.5)),
        ("auto", note("miss", "stored")),
        ("", note("bypass", "tools")),
    ):
        metrics.finished(finished(route=route, cache=cache), 10.5)
    return metrics


def test_requests_are_counted_by_route_result_and_detail() -> None:
    assert scraped(counted(), Cache(0, 0, 0))["sidecar_cache_total"] == {
        ("auto", "hit", "exact"): 1,
        ("auto", "hit", "canonical"): 1,
        ("auto", "miss", "stored"): 1,
        ("", "bypass", "tools"): 1,
    }


def test_what_was_saved_adds_up_by_route() -> None:
    found = scraped(counted(), Cache(0, 0, 0))
    assert found["sidecar_cache_saved_usd_total"] == {("auto",): 2.5, ("",): 0}
    assert found["sidecar_cache_saved_seconds_total"] == {("auto",): 2.0, ("",): 0}


def test_memory_and_checks_are_told() -> None:
    checked = [Checked("auto", "exact", 10, 4, False), Checked("", "canonical", 3, 0, True)]
    found = scraped(Metrics("1"), Cache(7, 900, 2, checked))
    assert found["sidecar_cache_entries"] == {(): 7}
    assert found["sidecar_cache_bytes"] == {(): 900}
    assert found["sidecar_cache_evictions_total"] == {(): 2}
    assert found["sidecar_cache_shadow_total"] == {
        ("auto", "exact", "agreed"): 6,
        ("auto", "exact", "disagreed"): 4,
        ("", "canonical", "agreed"): 3,
        ("", "canonical", "disagreed"): 0,
    }
    assert found["sidecar_cache_tier_on"] == {("auto", "exact"): 0, ("", "canonical"): 1}


def test_tiers_that_are_not_there_have_no_series() -> None:
    names = set(scraped(Metrics("1"), Cache(0, 0, 0)))
    assert not [name for name in names if "shared" in name or "semantic" in name]


def test_the_shared_tier_tells_its_results() -> None:
    found = scraped(Metrics("1"), Cache(0, 0, 0, shared=Shared(False, {"hit": 3, "late": 1})))
    assert found["sidecar_cache_shared_on"] == {(): 0}
    assert found["sidecar_cache_shared_total"] == {("hit",): 3, ("late",): 1}


def test_the_semantic_tier_tells_its_guards_and_similarities() -> None:
    similarity = Histogram((0.5, 0.95, 1.0))
    for value in (0.2, 0.95, 0.97):
        similarity.observe(value)
    found = scraped(Metrics("1"), Cache(0, 0, 0, semantic=Semantic(5, 2, {"number": 4}, similarity)))
    assert found["sidecar_cache_semantic_entries"] == {(): 5}
    assert found["sidecar_cache_semantic_failures_total"] == {(): 2}
    assert found["sidecar_cache_semantic_refused_total"] == {("number",): 4}
    buckets = {le: count for (le,), count in found["sidecar_cache_semantic_similarity_bucket"].items()}
    assert buckets == {"0.5": 1, "0.95": 2, "1.0": 3, "+Inf": 3}
    assert found["sidecar_cache_semantic_similarity_sum"] == {(): 0.2 + 0.95 + 0.97}


def test_without_a_cache_there_is_none_of_it_whatever_was_counted_before() -> None:
    assert scraped(counted(), None) == {}
