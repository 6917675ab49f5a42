"""The chart and the injector judge values alike: it starts with what helm renders, and helm refuses the rest.

An injector that cannot start leaves pods without a sidecar, and nobody is told.
"""

import re
from random import Random
from typing import Any

import pytest

from sidecar import __version__
from sidecar.commands.inject import settings_of
from sidecar.k8s.settings import Settings, from_arguments
from tests.k8s.support_helm import Object, example, render, render_script
from tests.k8s.test_chart_injector import options_in

NAMES = ("a", "a.b", "1", "a-b.c-d", "a" * 253, "a..b", "a-.b", "-a", "a.", "A", "a_b", "a b", "a" * 254)
NUMBERS = ("0", "1", "0.1", "0.5", "50", "64", "128.125", "512", "0.0015", "00.5", "5.", ".5", "1e3", "-1")
UNITS = ("", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "E", "MB")
AMOUNTS = tuple(number + unit for number in NUMBERS for unit in UNITS)
MEMORY = (
    *("32Mi", "33554432", "33554431.999", "33554431999m", "64Mi", "67108.864k", "0.0625Gi", "256Mi", "512Mi"),
    *("0.001T", "1G", "999999999999.999Ti"),
)
CPU = ("1m", "0.001", "10m", "50m", "0.05", "51m", "1", "1000m", "2", "10.0m", "0.5m", "0.0001k")
CHOICES: dict[str, tuple[Any, ...]] = {
    "image.repository": (
        *("ai-sidecar", "reg.example:5000/team/a", "Reg.Example/b", "a__b", "a--b", "a.b/c_d", "localhost/a"),
        *("reg/b:1.2", "reg//b", "a___b", "a-", "-a", "reg:123456/b", "a@b", "A", "ä", "a b", ""),
    ),
    "image.tag": ("", "1.0", "V1_2-a", "a" * 128, ".a", "a" * 129, "1:2", "a b"),
    "image.digest": ("", f"sha256:{'0' * 64}", f"sha256:{'A' * 64}", f"sha512:{'0' * 64}", "sha256:"),
    "sidecar.mode": ("native", "classic", "both"),
    "sidecar.configMap": NAMES,
    "sidecar.secret": NAMES,
    "sidecar.port": (1023, 1024, 9901, 9902, 65535, 65536),
    "sidecar.healthPort": (80, 8080, 9912, 9901),
    "sidecar.adminPort": (0, 8080, 9911, 70000),
    "sidecar.logLevel": ("debug", "warning", "INFO", "trace"),
    "sidecar.env": (True, False),
    "sidecar.resources.requests.cpu": (None, *CPU),
    "sidecar.resources.limits.cpu": (None, *CPU),
    "sidecar.resources.requests.memory": (None, *MEMORY),
    "sidecar.resources.limits.memory": (None, *MEMORY),
}
# What the chart says to the injector of each.
OPTIONS = {
    "sidecar.configMap": "config",
    "sidecar.secret": "secret",
    "sidecar.port": "port",
    "sidecar.healthPort": "health-port",
    "sidecar.adminPort": "admin-port",
    "sidecar.logLevel": "log-level",
    "sidecar.env": "env",
}
OPTIONS |= {
    f"sidecar.resources.{kind}s.{what}": f"{what}-{kind}"
    for kind in ("request", "limit")
    for what in ("cpu", "memory")
}


def judged(values: Object) -> Settings | None:
    """What the injector makes of these values; None where it would not start."""
    image = f"{values.get('image.repository', 'ai-sidecar')}:{values.get('image.tag') or __version__}"
    if digest := values.get("image.digest"):
        image += f"@{digest}"
    said = {"True": "on", "False": "off", "None": ""}
    defaults = [
        f"{option}={said.get(str(values[name]), values[name])}"
        for name, option in OPTIONS.items()
        if name in values
    ]
    mode = values.get("sidecar.mode", "native")
    try:
        return from_arguments(image, mode, defaults) if mode in ("native", "classic") else None
    except ValueError:
        return None


def rendered(values: Object) -> Settings | None:
    """What the injector is told by the chart with these values; None where helm refuses them."""
    try:
        made = render({**example("sidecar"), **values})
    except render_script.HelmError as error:
        # The schema's words or the chart's own, not those of a template that broke.
        assert re.search(r"\bat '/|execution error at \([\w./:-]+\): sidecar", str(error)), error
        return None
    return settings_of(options_in(made))


def some_values(random: Random) -> Object:
    """A few changes, most of them to amounts, whose pairs must fit too."""
    values = {}
    for _ in range(random.randint(1, 3)):
        name = random.choice([*CHOICES, *(name for name in CHOICES if ".resources." in name)])
        choices = CHOICES[name] if random.random() < 0.8 or ".resources." not in name else AMOUNTS
        values[name] = random.choice(choices)
    return values


@pytest.mark.parametrize("seed", range(6))
def test_helm_renders_what_the_injector_takes_and_refuses_what_it_would_not(seed: int) -> None:
    random = Random(seed)
    taken = []
    for _ in range(20):
        values = some_values(random)
        expected = judged(values)
        assert rendered(values) == expected, values
        taken.append(expected is not None)
    # Else this would say little of one of the two.
    assert 3 <= sum(taken) <= 17


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "sidecar.env"])
def test_each_value_has_good_and_bad_choices_here(name: str) -> None:
    assert {judged({name: choice}) is None for choice in CHOICES[name]} == {True, False}


def test_amount_that_is_null_is_none_and_not_the_commands_own_default() -> None:
    settings = rendered({"sidecar.resources.limits.memory": None, "sidecar.resources.requests": None})
    assert settings is not None
    assert (settings.memory_limit, settings.memory_request, settings.cpu_request) == (None, None, None)
