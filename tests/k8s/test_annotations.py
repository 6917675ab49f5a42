"""What a pod says of its own sidecar, over what holds for all."""

from typing import Any

import msgspec
from msgspec.structs import replace

from sidecar.k8s.annotations import Wish, opts_out, wish_of
from sidecar.k8s.pod import Pod
from tests.k8s.support import DEFAULTS, pod_of


def read(**said: Any) -> Pod:
    return msgspec.convert(pod_of(**said), Pod)


def wish(**annotations: str) -> Wish:
    said = {name.replace("_", "-"): value for name, value in annotations.items()}
    return wish_of(read(annotations=said), DEFAULTS)


def test_every_annotation_replaces_its_default_and_no_other() -> None:
    said = {
        "image": "mirror.example/ai-sidecar:2",
        "config": "other",
        "secret": "other-key",
        "port": "8181",
        "health_port": "9912",
        "admin_port": "9911",
        "log_level": "debug",
        "env": "off",
        "token_audience": "gateway",
        "cpu_request": "100m",
        "cpu_limit": "2",
        "memory_request": "128Mi",
        "memory_limit": "1Gi",
    }
    numbers: dict[str, Any] = {"port": 8181, "health_port": 9912, "admin_port": 9911, "env": False}
    names = frozenset(name.replace("_", "-") for name in said)
    assert wish(**said) == Wish(replace(DEFAULTS, **{**said, **numbers}), [], [], names)
    for name, value in said.items():
        assert wish(**{name: value}).settings == replace(DEFAULTS, **{name: numbers.get(name, value)})


def test_every_fault_is_named_not_only_the_first() -> None:
    found = wish(port="1", image="", memory_limit="1").faults
    assert [fault.split(":")[0] for fault in found] == [
        "annotation ai-sidecar/port",
        "annotation ai-sidecar/image",
        "annotation ai-sidecar/memory-limit",
    ]


def test_of_a_flood_of_unknown_annotations_a_few_are_named_and_the_known_ones_read() -> None:
    flood = {f"unknown-{number}": "x" for number in range(1000)}
    found = wish(**flood, port="1", memory_limit="1Gi")
    assert found.settings.memory_limit == "1Gi"
    assert len(found.notes) == 16
    assert len(found.faults) == 1


def test_annotations_of_others_and_no_metadata_mean_the_defaults() -> None:
    for annotations in (None, {}, {"sidecar.istio.io/inject": "x"}):
        assert wish_of(read(annotations=annotations), DEFAULTS) == Wish(DEFAULTS, [], [], frozenset())
    bare = msgspec.convert({"spec": {"containers": []}}, Pod)
    assert wish_of(bare, DEFAULTS) == Wish(DEFAULTS, [], [], frozenset())
    assert not opts_out(bare)


def test_only_false_and_a_mirror_opt_out() -> None:
    assert opts_out(read(labels={"ai-sidecar/inject": "false"}))
    assert opts_out(read(annotations={"kubernetes.io/config.mirror": ""}))
    assert not opts_out(read(labels={"ai-sidecar/inject": "true"}))
    assert not opts_out(read(labels={"ai-sidecar/inject": "False"}))
