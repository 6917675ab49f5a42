"""What is accepted as a setting, and that what is refused is explained."""

from decimal import Decimal

import pytest
from msgspec.structs import replace

from sidecar.k8s.settings import (
    PARSERS,
    Settings,
    Unknown,
    amount_of,
    changed,
    contradictions,
    from_arguments,
    shown,
)

BASE = Settings(image="a")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("image", "ai-sidecar"),
        ("image", "registry.example:5000/team/ai-sidecar:1.2.3"),
        ("image", f"Registry.Example/a__b/c--d@sha256:{'0' * 64}"),
        ("config", "my-config.v2"),
        ("port", "1024"),
        ("port", "65535"),
        ("log-level", "debug"),
        ("token-audience", "https://gateway.example"),
        ("cpu-limit", "0.5"),
        ("cpu-request", "1m"),
        ("memory-limit", "32Mi"),
        ("memory-limit", "1Gi"),
    ],
)
def test_a_good_value_is_taken_over(name: str, text: str) -> None:
    settings, faults = changed(BASE, {name: text})
    assert faults == []
    assert str(getattr(settings, name.replace("-", "_"))) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("image", ""),
        ("image", "Upper/Case"),
        ("image", "a:"),
        ("image", "a b"),
        ("image", "a\n"),
        ("image", "http://a/b"),
        ("image", f"a@sha256:{'0' * 63}"),
        ("image", "a" * 513),
        ("config", "a_b"),
        ("config", "a" * 254),
        ("config", "a..b"),
        ("port", "80"),
        ("port", "1023"),
        ("port", "65536"),
        ("port", "8080\n"),
        ("port", "٨٠٨٠"),
        ("port", "-8080"),
        ("log-level", "INFO"),
        ("env", "yes"),
        ("token-audience", "a b"),
        ("token-audience", ""),
        ("cpu-limit", "0"),
        ("cpu-limit", "0.5m"),
        ("cpu-limit", "-1"),
        ("cpu-limit", "1 "),
        ("memory-limit", "128"),
        ("memory-limit", "128m"),
        ("memory-limit", "31Mi"),
        ("memory-limit", "1GB"),
        ("memory-limit", "٦٤Mi"),
    ],
)
def test_a_bad_value_is_refused_and_the_default_kept(name: str, text: str) -> None:
    settings, faults = changed(BASE, {name: text})
    assert settings == BASE
    assert [fault[0] for fault in faults] == [name]
    assert len(str(faults[0][1])) < 160


def test_an_unknown_name_is_told_from_a_bad_value() -> None:
    _, faults = changed(BASE, {"prot": "1", "port": "1"})
    assert [isinstance(fault, Unknown) for _, fault in faults] == [True, False]


def test_a_value_in_a_message_is_one_short_line_of_ascii() -> None:
    assert shown("a\nb\r\x1b[31m\u202e") == r"'a\nb\r\x1b[31m\u202e'"
    assert len(shown("x" * 10_000)) < 70


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("1", "1"), ("100m", "0.1"), ("1.5", "1.5"), ("1k", "1000"), ("64Mi", "67108864"), ("1G", "1000000000")],
)
def test_a_quantity_is_the_number_kubernetes_takes_it_for(quantity: str, amount: str) -> None:
    assert amount_of(quantity) == Decimal(amount)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": "9901"}, "admin-port and port are both 9901: change one"),
        ({"health-port": "9901"}, "admin-port and health-port are both 9901: change one"),
        (
            {"cpu-limit": "10m"},
            "cpu-request 50m is more than cpu-limit 10m: change one; an empty limit is none",
        ),
        (
            {"memory-request": "1Gi"},
            "memory-request 1Gi is more than memory-limit 256Mi: change one; an empty limit is none",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_found(values: dict[str, str], message: str) -> None:
    assert list(contradictions(changed(BASE, values)[0])) == [message]


def test_equal_request_and_limit_fit() -> None:
    values = {"memory-request": "256Mi", "cpu-limit": "0.05"}
    assert list(contradictions(changed(BASE, values)[0])) == []


@pytest.mark.parametrize("name", ["cpu-request", "cpu-limit", "memory-request", "memory-limit"])
def test_an_empty_amount_is_none(name: str) -> None:
    given = changed(BASE, {"cpu-limit": "1"})[0]
    assert changed(given, {name: ""}) == (replace(given, **{name.replace("-", "_"): None}), [])
    assert changed(given, {name: " "})[1] != []


def test_without_a_limit_any_request_fits() -> None:
    values = {"memory-request": "1Gi", "memory-limit": ""}
    assert list(contradictions(changed(BASE, values)[0])) == []


def test_every_setting_but_the_mode_has_a_parser() -> None:
    fields = {name.replace("_", "-") for name in Settings.__struct_fields__}
    assert fields - {"mode"} == set(PARSERS)


def test_arguments_are_read_and_the_last_one_wins() -> None:
    settings = from_arguments("a:1", "classic", ["port=8081", "port=8082", "env=off", "memory-limit="])
    assert settings == Settings(image="a:1", mode="classic", port=8082, env=False, memory_limit=None)


@pytest.mark.parametrize(
    ("image", "defaults", "message"),
    [
        ("A b", [], "--image: 'A b' is not an image"),
        ("a", ["port"], "--default 'port': expected NAME=VALUE"),
        ("a", ["prot=1"], "--default prot: there is no such setting: choose from image, config"),
        ("a", ["port=1"], "--default port: '1' is not a port"),
        ("a", ["port=9902"], "--default: health-port and port are both 9902"),
        ("a", ["memory-request=512Mi"], "--default: memory-request 512Mi is more than memory-limit 256Mi"),
        ("a", ["port="], "--default port: '' is not a port"),
    ],
)
def test_a_wrong_argument_is_named(image: str, defaults: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_arguments(image, "native", defaults)
