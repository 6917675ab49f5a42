"""Certificates in files, as a volume shows them."""

from pathlib import Path

import pytest

from tests.k8s.pki import Authority, Files


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Files:
    made = Files(tmp_path)
    made.write(*authority.pair())
    return made
