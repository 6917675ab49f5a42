"""The shared tier's tests."""

import pytest


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look-up is late because the machine is busy."""
    monkeypatch.setattr("sidecar.cache.shared.tier.LOOK_S", 5.0)
