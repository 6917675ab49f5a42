"""A dump says what is in force and nothing that is secret."""

import json
from pathlib import Path

import yaml

from sidecar.config.dump import redacted
from tests.config.support import ENVIRON, MINIMAL, config_of, full_text


def test_dump_of_the_full_configuration_is_what_its_file_says(tmp_path: Path) -> None:
    text = full_text(tmp_path)
    said, shown = yaml.safe_load(text), redacted(config_of(text))
    assert shown["listen"] == said["listen"]
    timeouts = said["providers"]["global-api"]["timeouts"]
    assert shown["providers"]["global-api"] == said["providers"]["global-api"] | {
        "api_key": "***",
        "timeouts": timeouts | {"idle": "1m"},
        "break_glass": False,
    }
    assert shown["budgets"] == [said["budgets"][0] | {"soft": 0.8}]
    assert shown["keys"] == [said["keys"][0] | {"hash": "***", "expires": "2099-01-31"}]
    assert shown["fleet"] == said["fleet"] | {"redis": "***"}
    assert shown["routes"]["auto"]["classify"][0] == said["routes"]["auto"]["classify"][0] | {
        "when": {"importance": "critical", "keywords": []}
    }


def test_dump_holds_no_secret_and_is_json(tmp_path: Path) -> None:
    shown = json.dumps(redacted(config_of(full_text(tmp_path))))
    for secret in (*ENVIRON.values(), "sk-pro", "0123456789abcdef"):
        assert secret not in shown


def test_header_named_like_a_credential_is_hidden() -> None:
    text = MINIMAL.replace("{endpoints", "{headers: {x-team: a, x-goog-api-key: b, X-Auth: c}, endpoints")
    headers = redacted(config_of(text))["providers"]["a"]["headers"]
    assert headers == {"x-team": "a", "x-goog-api-key": "***", "X-Auth": "***"}


def test_defaults_are_shown_and_what_is_off_is_not() -> None:
    shown = redacted(config_of(MINIMAL))
    assert shown["drain"] == {"min": "2s", "max": "25s"}
    assert "cache" not in shown
    assert "api_key" not in shown["providers"]["a"]
