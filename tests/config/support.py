"""Small configurations, and what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.config.load import parse
from sidecar.config.model import Config
from sidecar.config.problems import ConfigError

HERE = Path(__file__).parent
CA_FILE = str(HERE / "ca.pem")
ENVIRON = {
    "GLOBAL_API_KEY": "sk-global",
    "DEEPSEEK_API_KEY": "sk-deepseek",
    "REDIS_URL": "redis://:pw@r:6379",
}

MODELS = 'models: {"*": {provider: a}}\n'
MINIMAL = 'providers: {a: {endpoints: [{url: "https://a.example/v1"}]}}\n' + MODELS


def full_text(folder: Path) -> str:
    """The configuration with every part, its files put into a folder of the test."""
    key_file = folder / "pro-key"
    key_file.write_text("sk-pro\n")
    text = (HERE / "full.yaml").read_text()
    text = text.replace("/var/run/secrets/sidecar/pro-key", str(key_file))
    return text.replace("/etc/ssl/corp.pem", CA_FILE).replace("/var/lib/sidecar", str(folder))


def config_of(text: str, environ: Mapping[str, str] = ENVIRON) -> Config:
    """A configuration that must be good; everything is available."""
    return parse(text.encode(), environ, unavailable={}).config


def problems_of(text: str | bytes, environ: Mapping[str, str] = ENVIRON) -> dict[str, str]:
    """The problems of a configuration that must be bad, by field path; everything is available."""
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as raised:
        parse(content, environ, unavailable={})
    paths = [problem.path for problem in raised.value.problems]
    assert len(paths) == len(set(paths)), f"one field, two problems: {raised.value}"
    return dict(raised.value.problems)
