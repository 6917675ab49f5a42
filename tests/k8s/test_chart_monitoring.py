"""Alerts and dashboard ask for metrics and labels that exist, and no others."""

import json
import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.k8s.tls import Serving
from sidecar.k8s.webhook import Metrics as InjectorMetrics
from sidecar.telemetry.cache_series import Cache, Checked, Semantic, Shared
from sidecar.telemetry.exposition import Health, Limits, expose
from sidecar.telemetry.metrics import CacheRow, Histogram, Metrics, Row
from tests.k8s.support_helm import CHART, Object, example, one, render

# What Prometheus adds to everything it reads from a pod.
OF_THE_TARGET = {"namespace", "pod"}


def exposed() -> dict[str, set[str]]:
    """The labels of each series that a sidecar or an injector can show, by its name."""
    metrics = Metrics("1")
    row = metrics.rows[("team", "route", "model", "provider", "region")] = Row()
    row.codes[200] = 1
    metrics.cache_rows["route", "hit", "exact"] = CacheRow()
    metrics.failed["provider", "endpoint", "region", "timeout"] = 1
    limits = Limits({("tier standard", False): 1}, {("b", "team", "spent"): 1.0}, 0)
    semantic = Semantic(1, 0, {"number": 1}, Histogram((1.0,)))
    cache = Cache(1, 1, 0, [Checked("route", "exact", 1, 0, True)], Shared(True, {"hit": 1}), semantic)
    health = [Health("provider", "endpoint", "region", True, 0)]
    text = expose(metrics, health, {"provider": 1}, limits, cache).decode()
    families = [*text_string_to_metric_families(text), *InjectorMetrics(Serving()).registry.collect()]
    found: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


EXPOSED = exposed()
DASHBOARD = json.loads((CHART / "dashboards" / "ai-sidecar.json").read_text())


def panels() -> Iterator[tuple[str, str]]:
    """Title and query of everything on the dashboard."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def check(query: str) -> None:
    """Every metric of a query is exposed, and has, as far as can be read, the labels it is asked for."""
    names = re.findall(r"\bsidecar_\w+", query)
    assert names
    assert [name for name in names if name not in EXPOSED] == []
    known = set.union(*(EXPOSED[name] for name in names)) | OF_THE_TARGET
    for name, matchers in re.findall(r"\b(sidecar_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)=", matchers)) <= EXPOSED[name] | OF_THE_TARGET
    for labels in re.findall(r"\b(?:by|ignoring) \(([^)]*)\)", query):
        assert {label.strip() for label in labels.split(",")} <= known


@pytest.mark.parametrize(("title", "query"), list(panels()))
def test_panel_asks_for_metrics_that_exist(title: str, query: str) -> None:
    check(query)


def test_panel_for_a_metric_that_does_not_exist_would_be_found() -> None:
    for query in ("sidecar_request_total", 'sidecar_requests_total{status="500"}'):
        with pytest.raises(AssertionError):
            check(query)


def test_every_metric_of_the_sidecar_has_a_panel() -> None:
    asked = set(re.findall(r"\bsidecar_\w+", "".join(query for _, query in panels())))
    endings = "_(bucket|sum|count|created)$"
    families = {re.sub(endings, "", name) for name in EXPOSED if not name.startswith("sidecar_injector_")}
    assert families - {re.sub(endings, "", name) for name in asked} == set()


def test_legends_name_labels_that_their_queries_keep() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert any(label in group.replace(",", " ").split() for group in kept), panel["title"]


def test_panels_do_not_overlap_and_have_one_id_each() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


# --- as rendered ---


def monitored(mode: str = "sidecar", availability: float = 0.999) -> list[Object]:
    parts = {"rules": {"availability": availability}, "podMonitor": {}, "dashboard": {}}
    return render(
        {
            **example(mode),
            "monitoring": {name: {"enabled": True, **part} for name, part in parts.items()},
        }
    )


def rules(objects: list[Object]) -> dict[str, Object]:
    (group,) = one(objects, "PrometheusRule")["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_alerts_ask_for_metrics_that_exist_and_say_what_is_wrong() -> None:
    found = rules(monitored())
    assert set(found) == {
        "AiSidecarErrorsFast",
        "AiSidecarErrorsSlow",
        "AiSidecarEndpointOut",
        "AiSidecarKeyRefused",
        "AiSidecarProviderOut",
        "AiSidecarConfigReloadFailed",
        "AiSidecarBudgetNearlySpent",
        "AiSidecarBreakGlassOn",
        "AiSidecarCacheTierOff",
        "AiSidecarInjectorCertificateEnds",
        "AiSidecarInjectorRefuses",
    }
    for rule in found.values():
        check(rule["expr"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        kept = ",".join(re.findall(r"\bby \(([^)]*)\)", rule["expr"])).replace(",", " ").split()
        said = f"{rule['annotations']['summary']} {rule['annotations']['description']}"
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= set(kept)


def test_error_alerts_follow_the_objective() -> None:
    expr = rules(monitored(availability=0.99))["AiSidecarErrorsFast"]["expr"]
    assert expr.count("> 14.4 * 0.010000") == 2


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_monitors_ask_the_ports_that_pods_have(mode: str) -> None:
    made = monitored(mode)
    ports = {
        port["name"]
        for container in one(made, "Deployment")["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    asked = {
        endpoint["port"]
        for each in made
        if each["kind"] == "PodMonitor"
        for endpoint in each["spec"]["podMetricsEndpoints"]
    }
    # The sidecar's own port is on pods that the injector changes, not on a Deployment of the chart.
    assert asked - ports == ({"sidecar-health"} if mode == "sidecar" else set())


def test_alert_for_refused_pods_counts_the_results_that_the_injector_has() -> None:
    metrics = InjectorMetrics(Serving())
    (reviews,) = (each for each in metrics.registry.collect() if each.name == "sidecar_injector_reviews")
    results = {sample.labels["result"] for sample in reviews.samples}
    rule = rules(monitored())["AiSidecarInjectorRefuses"]
    found = re.search(r'result=~"([^"]+)"', rule["expr"])
    assert found
    assert set(found[1].split("|")) == results - {"injected", "skipped"}
    assert "The log of the injector names each pod" in rule["annotations"]["description"]
    assert "AiSidecarInjectorRefuses" not in rules(monitored("gateway"))


def is_selected(selector: Object, labels: Object) -> bool:
    """Whether a label selector of Kubernetes takes these labels."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    # As Kubernetes has it, NotIn holds where the label is absent.
    return all(
        (labels.get(each["key"]) in each["values"]) == (each["operator"] == "In")
        for each in selector.get("matchExpressions", ())
    )


@pytest.mark.parametrize(
    "labels",
    [{}, {"app": "shop"}, {"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "gateway"}],
)
def test_injected_pod_is_read_whatever_its_labels(labels: Object) -> None:
    assert is_selected(one(monitored(), "PodMonitor", "ai-sidecar")["spec"]["selector"], labels)


def test_no_pod_is_read_twice_where_sidecars_and_a_gateway_are_monitored() -> None:
    releases = monitored("sidecar"), monitored("gateway")
    monitors = [each for made in releases for each in made if each["kind"] == "PodMonitor"]
    assert len(monitors) == 3
    for made in releases:
        labels = one(made, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert len([each for each in monitors if is_selected(each["spec"]["selector"], labels)]) == 1


def test_dashboard_is_delivered_as_it_is() -> None:
    delivered = one(monitored(), "ConfigMap", "ai-sidecar-dashboard")
    assert json.loads(delivered["data"]["ai-sidecar.json"]) == DASHBOARD
    assert delivered["metadata"]["labels"]["grafana_dashboard"] == "1"
