"""Which pods get the sidecar, and that the patch adds it and changes nothing else."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.k8s.settings import Settings
from tests.k8s.support import (
    CLASSIC,
    DEFAULTS,
    Tree,
    applied,
    env_of,
    injected,
    outcome_of,
    pod_of,
    sidecar_in,
)

APP = {"name": "app", "image": "app"}
ISTIO = {
    "name": "istio-proxy",
    "image": "istio/proxyv2",
    "restartPolicy": "Always",
    "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
    "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
}
URLS = {"OPENAI_BASE_URL": "http://127.0.0.1:8080/v1", "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080"}


# --- where it stands ---


@pytest.mark.parametrize("there", [{}, {"initContainers": None}, {"initContainers": []}])
def test_a_native_sidecar_is_the_first_init_container(there: Tree) -> None:
    pod = injected(pod_of(**there))
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["ai-sidecar"]
    assert sidecar_in(pod)["restartPolicy"] == "Always"


def test_it_stands_before_init_containers_and_sidecars_of_others() -> None:
    pod = injected(pod_of(APP, initContainers=[{"name": "istio-init"}, ISTIO, {"name": "migrate"}]))
    names = [one["name"] for one in pod["spec"]["initContainers"]]
    assert names == ["ai-sidecar", "istio-init", "istio-proxy", "migrate"]


def test_a_classic_sidecar_is_the_last_container_and_has_no_restart_policy() -> None:
    pod = injected(pod_of(APP, initContainers=[{"name": "migrate"}]), CLASSIC)
    assert [one["name"] for one in pod["spec"]["containers"]] == ["app", "ai-sidecar"]
    assert "restartPolicy" not in sidecar_in(pod)


# --- what the app gets ---


@pytest.mark.parametrize("env", [{}, {"env": None}, {"env": []}])
def test_an_app_without_settings_gets_urls_and_a_key(env: Tree) -> None:
    pod = injected(pod_of({"name": "app", **env}))
    assert env_of(pod["spec"]["containers"][0]) == {**URLS, "OPENAI_API_KEY": "sidecar"}


def test_all_containers_get_them_and_init_containers_too() -> None:
    pod = injected(
        pod_of({"name": "a"}, {"name": "b", "env": [{"name": "X"}]}, initContainers=[{"name": "i"}])
    )
    others = [pod["spec"]["initContainers"][1], *pod["spec"]["containers"]]
    assert [one["name"] for one in others] == ["i", "a", "b"]
    assert all(env_of(one).items() >= URLS.items() for one in others)


def test_init_containers_before_a_classic_sidecar_get_nothing() -> None:
    pod = injected(pod_of(initContainers=[{"name": "i"}]), CLASSIC)
    assert pod["spec"]["initContainers"] == [{"name": "i"}]


@pytest.mark.parametrize("name", [*URLS, "OPENAI_API_KEY"])
@pytest.mark.parametrize(
    "value",
    [{"value": "mine"}, {"value": ""}, {}, {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
)
def test_what_an_app_has_set_stands(name: str, value: Tree) -> None:
    own = {"name": name, **value}
    pod = injected(pod_of({"name": "app", "env": [own]}))
    env = pod["spec"]["containers"][0]["env"]
    assert [variable for variable in env if variable["name"] == name] == [own]
    assert len(env) == 3


def test_the_port_of_the_annotation_is_in_the_urls_and_in_the_sidecar() -> None:
    pod = injected(pod_of(annotations={"port": "8181"}))
    assert env_of(pod["spec"]["containers"][0])["OPENAI_BASE_URL"] == "http://127.0.0.1:8181/v1"
    assert env_of(sidecar_in(pod))["SIDECAR_LISTEN_DATA"] == "127.0.0.1:8181"


def test_env_off_leaves_the_apps_alone() -> None:
    before = pod_of(APP, annotations={"env": "off"})
    assert injected(before)["spec"]["containers"] == before["spec"]["containers"]


# --- who does not get it ---


@pytest.mark.parametrize(
    "pod",
    [
        pod_of(labels={"ai-sidecar/inject": "false"}),
        pod_of(annotations={"kubernetes.io/config.mirror": "abc"}),
        pod_of(APP, {"name": "ai-sidecar"}),
        pod_of(initContainers=[{"name": "ai-sidecar", "restartPolicy": "Always"}]),
    ],
)
def test_who_opts_out_or_has_one_is_left_alone_without_a_word(pod: Tree) -> None:
    outcome = outcome_of(pod)
    assert (outcome.result, outcome.patch, outcome.warnings) == ("skipped", [], [])


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (pod_of(hostNetwork=True), "hostNetwork"),
        (pod_of(labels={"ai-sidecar/inject": "yes"}), "neither"),
        (pod_of(annotations={"port": "http"}), "annotation ai-sidecar/port"),
        (pod_of(annotations={"port": "9902"}), "health-port and port are both 9902"),
        (pod_of(annotations={"memory-limit": "128"}), "under 32Mi"),
        (pod_of(annotations={"memory-limit": "48Mi"}), "memory-request 64Mi is more than memory-limit 48Mi"),
        (pod_of(annotations={"image": "two words"}), "not an image"),
        (pod_of(annotations={"config": "Upper"}), "annotation ai-sidecar/config"),
        (pod_of(annotations={"env": "true"}), "not one of on, off"),
    ],
)
def test_what_would_not_start_is_not_injected_and_said_by_name(pod: Tree, reason: str) -> None:
    outcome = outcome_of(pod)
    assert (outcome.result, outcome.patch) == ("refused", [])
    assert len(outcome.warnings) == 1
    assert outcome.warnings[0].startswith("ai-sidecar is not injected: ")
    assert reason in outcome.warnings[0]


@pytest.mark.parametrize(
    "pod",
    [
        pod_of({"name": "app", "ports": [{"containerPort": 8080}]}, annotations={"port": "8081"}),
        pod_of(hostNetwork=False),
        pod_of(labels={"ai-sidecar/inject": "true"}),
        pod_of(ephemeralContainers=[{"name": "debugger", "targetContainerName": "app"}]),
        pod_of(volumes=[{"name": "data", "emptyDir": {}}]),
    ],
)
def test_what_only_looks_like_an_obstacle_is_injected(pod: Tree) -> None:
    assert outcome_of(pod).warnings == []
    assert sidecar_in(injected(pod))


# --- what is said ---


def test_unknown_annotations_are_named_and_do_not_stop_the_injection() -> None:
    outcome = outcome_of(pod_of(annotations={"imgae": "x", "inject": "true", "example.com/port": "x"}))
    assert outcome.result == "injected"
    assert len(outcome.warnings) == 2
    assert "ai-sidecar/inject is a label" in outcome.warnings[0]
    assert outcome.warnings[1].startswith(
        "annotation ai-sidecar/imgae: there is no such setting: choose from"
    )


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
def test_a_classic_sidecar_in_a_job_is_warned_of_a_native_one_is_not(policy: str) -> None:
    pod = pod_of(restartPolicy=policy)
    assert outcome_of(pod, DEFAULTS).warnings == []
    assert ["never completes" in warning for warning in outcome_of(pod, CLASSIC).warnings] == [True]


@pytest.mark.parametrize("defaults", [DEFAULTS, CLASSIC], ids=["native", "classic"])
def test_containers_that_join_an_injected_pod_learn_of_the_sidecar(defaults: Settings) -> None:
    pod = injected(pod_of(), defaults)
    pod["spec"]["containers"].append({"name": "late", "env": [{"name": "OPENAI_API_KEY", "value": "own"}]})
    outcome = outcome_of(pod, defaults)
    assert outcome.result == "skipped"
    after = applied(pod, outcome.patch)
    assert env_of(after["spec"]["containers"][-1]) == {**URLS, "OPENAI_API_KEY": "own"}
    assert after["spec"]["containers"][:-1] == pod["spec"]["containers"][:-1]
    assert outcome_of(after, defaults).patch == []


def test_containers_beside_a_sidecar_that_listens_elsewhere_are_left_alone() -> None:
    pod = injected(pod_of(annotations={"port": "9000"}))
    pod["metadata"]["annotations"] = {}
    pod["spec"]["containers"].append({"name": "late"})
    assert outcome_of(pod).patch == []


def test_a_sidecar_whose_restart_policy_was_dropped_is_pointed_out() -> None:
    outcome = outcome_of(pod_of(initContainers=[{"name": "ai-sidecar"}]))
    assert outcome.patch == []
    assert "lacks restartPolicy: Always" in outcome.warnings[0]


def test_a_pod_with_resources_of_its_own_shares_them() -> None:
    pod = pod_of(resources={"limits": {"cpu": "1", "memory": "512Mi"}})
    assert "resources" not in sidecar_in(injected(pod))
    assert "shares those of the pod" in outcome_of(pod).warnings[0]


@pytest.mark.parametrize("resources", [None, {}, {"limits": {}, "requests": None}])
def test_empty_resources_of_a_pod_are_none(resources: Any) -> None:
    pod = pod_of(resources=resources)
    assert "resources" in sidecar_in(injected(pod))
    assert outcome_of(pod).warnings == []


# --- a Guaranteed pod ---

FIXED = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}


@pytest.mark.parametrize("defaults", [DEFAULTS, CLASSIC], ids=["native", "classic"])
def test_a_guaranteed_pod_stays_so_and_its_author_learns_of_the_cpu(defaults: Settings) -> None:
    pod = pod_of({**APP, "resources": FIXED}, initContainers=[{"name": "i", "resources": FIXED}])
    made = sidecar_in(injected(pod, defaults))["resources"]
    assert made == {kind: {"cpu": "50m", "memory": "256Mi"} for kind in ("requests", "limits")}
    assert ["no more cpu than its request, 50m" in one for one in outcome_of(pod, defaults).warnings] == [
        True
    ]


def test_amounts_that_the_pod_asks_for_stand_and_the_loss_is_said() -> None:
    said = {"memory-request": "64Mi", "memory-limit": "128Mi"}
    pod = pod_of({**APP, "resources": FIXED}, annotations=said)
    assert sidecar_in(injected(pod))["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"memory": "128Mi"},
    }
    (warning,) = outcome_of(pod).warnings
    assert "the pod is not Guaranteed any more" in warning
    assert "ai-sidecar/memory-request and ai-sidecar/memory-limit equal" in warning


def test_a_guaranteed_pod_with_resources_of_its_own_is_so_whatever_its_containers_have() -> None:
    pod = pod_of({**APP, "resources": FIXED}, resources=FIXED)
    assert "resources" not in sidecar_in(injected(pod))
    assert len(outcome_of(pod).warnings) == 1


# --- a pod that comes again ---


def test_init_containers_that_end_before_the_sidecar_starts_get_nothing() -> None:
    pod = injected(pod_of())
    early = [{"name": "early"}, {"name": "proxy", "restartPolicy": "Always"}]
    pod["spec"]["initContainers"] = [*early, *pod["spec"]["initContainers"], {"name": "late"}]
    after = applied(pod, outcome_of(pod).patch)["spec"]["initContainers"]
    assert [one["name"] for one in after] == ["early", "proxy", "ai-sidecar", "late"]
    assert ["OPENAI_BASE_URL" in env_of(one) for one in after] == [False, True, False, True]


# --- adversaries ---


def test_of_hundreds_of_obstacles_a_few_are_named() -> None:
    ports = [{"containerPort": 8080}]
    outcome = outcome_of(pod_of(*({"name": f"a{i}", "ports": ports} for i in range(900))))
    assert outcome.result == "refused"
    assert len(outcome.warnings) == 16


@pytest.mark.parametrize("first", [[], [{"name": "ai-sidecar", "restartPolicy": "Always"}]])
def test_a_pod_with_more_containers_than_a_node_runs_gets_no_patch(first: list[Tree]) -> None:
    crowd = [{"name": f"a{i}"} for i in range(1001 - len(first))]
    outcome = outcome_of(pod_of(*crowd, initContainers=first))
    assert (outcome.result, outcome.patch) == ("refused", [])
    assert outcome.warnings == ["ai-sidecar is not injected: the pod has more than 1000 containers"]
    assert len(outcome_of(pod_of(*crowd[:1000])).patch) > 999


# --- any pod ---

names = st.sampled_from(
    ["a", "b", "istio-proxy", "OPENAI_API_KEY", "OPENAI_BASE_URL", "NO_PROXY", "HTTP_PROXY"]
)
variables = st.one_of(
    st.fixed_dictionaries({"name": names, "value": st.text(max_size=3)}),
    st.builds(lambda name: {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, names),
)
ports = st.fixed_dictionaries(
    {"containerPort": st.sampled_from([80, 8080, 9902, 15090])},
    optional={"protocol": st.sampled_from(["TCP", "UDP", None])},
)


def some(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.lists(items, max_size=3))


containers = st.fixed_dictionaries(
    {"name": names},
    optional={
        "env": some(variables),
        "ports": some(ports),
        "envFrom": some(st.just({"configMapRef": {"name": "c"}})),
        "restartPolicy": st.sampled_from(["Always", None]),
        "resources": st.sampled_from([None, {}, {"limits": {"cpu": "1", "memory": "1Gi"}}]),
        "image": st.text(max_size=3),
    },
)
pods = st.fixed_dictionaries(
    {
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(containers, min_size=1, max_size=3)},
            optional={
                "initContainers": some(containers),
                "volumes": some(st.fixed_dictionaries({"name": names, "emptyDir": st.just({})})),
                "nodeSelector": st.dictionaries(
                    st.just("kubernetes.io/os"), st.sampled_from(["linux", "windows"])
                ),
                "hostNetwork": st.sampled_from([None, True, False]),
                "restartPolicy": st.sampled_from(["Always", "Never", "OnFailure"]),
            },
        )
    },
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(
                    st.just("ai-sidecar/inject"), st.sampled_from(["true", "false", "x"])
                ),
                "annotations": st.dictionaries(
                    st.sampled_from(["ai-sidecar/port", "ai-sidecar/env", "ai-sidecar/cpu-limit", "other"]),
                    st.sampled_from(["8080", "9000", "off", "", None]),
                ),
            },
        )
    },
)


@settings(max_examples=300)
@given(pod=pods, defaults=st.sampled_from([DEFAULTS, CLASSIC]))
def test_the_patch_of_any_pod_applies_adds_only_and_is_made_once(pod: Tree, defaults: Settings) -> None:
    before = copy.deepcopy(pod)
    outcome = outcome_of(pod, defaults)
    assert pod == before
    after = applied(pod, outcome.patch)
    assert outcome_of(after, defaults).patch == []
    if outcome.result != "injected":
        assert outcome.patch == []
        return
    assert without_ours(after) == without_ours(pod)
    assert sidecar_in(after)


def without_ours(pod: Tree) -> Tree:
    """The pod without the sidecar, its volumes and what it put into `env`; null and empty lists alike."""
    pod = copy.deepcopy(pod)
    spec = pod["spec"]
    for place in ("containers", "initContainers"):
        spec[place] = [one for one in spec.get(place) or [] if one["name"] != "ai-sidecar"]
        for one in spec[place]:
            one["env"] = [variable for variable in one.get("env") or [] if not is_ours(variable)]
    spec["volumes"] = [one for one in spec.get("volumes") or [] if not one["name"].startswith("ai-sidecar")]
    return pod


def is_ours(variable: Tree) -> bool:
    value = variable.get("value") or ""
    return value.startswith("http://127.0.0.1:") or value in ("sidecar", "127.0.0.1,localhost")
