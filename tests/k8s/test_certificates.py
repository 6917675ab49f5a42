"""The injector's own certificates, over years, on a clock of the test's: the API server always trusts them.

Go's verifier, the API server's, is stricter than OpenSSL in nothing that matters here: both want a SAN, a CA
with its bit and its usage, and a time within.
"""

import ssl
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import DNSName
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from sidecar.k8s.certificates import (
    AUTHORITY_LIFE,
    CERTIFICATE_LIFE,
    PUBLISH,
    Bundle,
    from_secret,
    renewed,
)
from sidecar.k8s.tls import Serving

HOSTS = ("injector.system.svc", "injector.system.svc.cluster.local")
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def trusts(authorities: bytes, certificate: bytes, now: datetime, host: str = HOSTS[0]) -> bool:
    """Whether a client with these authorities accepts the certificate."""
    store = Store(x509.load_pem_x509_certificates(authorities))
    verifier = PolicyBuilder().store(store).time(now).build_server_verifier(DNSName(host))
    try:
        verifier.verify(x509.load_pem_x509_certificate(certificate), [])
    except VerificationError:
        return False
    return True


def made(now: datetime = START) -> Bundle:
    bundle = renewed(None, HOSTS, now)
    assert bundle is not None
    return bundle


def serial(bundle: Bundle) -> int:
    return x509.load_pem_x509_certificate(bundle.certificate).serial_number


def authorities_in(bundle: Bundle) -> int:
    return len(x509.load_pem_x509_certificates(bundle.authorities))


def test_the_first_bundle_is_whole_and_trusted() -> None:
    bundle = made()
    assert all(trusts(bundle.authorities, bundle.certificate, START, host) for host in HOSTS)
    assert not trusts(bundle.authorities, bundle.certificate, START, "other.system.svc")
    Serving().use(bundle.certificate, bundle.key)


def test_a_clock_that_is_a_little_behind_trusts_it_too() -> None:
    bundle = made()
    assert trusts(bundle.authorities, bundle.certificate, START - timedelta(minutes=4))


def test_openssl_accepts_it_in_strict_mode() -> None:
    bundle = made()
    context = ssl.create_default_context(cadata=bundle.authorities.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert context.cert_store_stats()["x509_ca"] == 1


def test_nothing_is_due_until_two_thirds_have_passed() -> None:
    bundle = made()
    assert renewed(bundle, HOSTS, START) is None
    assert renewed(bundle, HOSTS, START + CERTIFICATE_LIFE * 0.66) is None
    new = renewed(bundle, HOSTS, START + CERTIFICATE_LIFE * 0.67)
    assert new is not None
    assert serial(new) != serial(bundle)
    assert new.authorities == bundle.authorities


def test_over_three_years_no_client_ever_meets_a_certificate_it_cannot_trust() -> None:
    """Looked at each 6 hours. A client may be that late in learning of new authorities."""
    bundle, now = made(), START
    known = bundle.authorities
    certificates, most = 1, 1
    while now < START + 3 * AUTHORITY_LIFE:
        now += 6 * HOUR
        new = renewed(bundle, HOSTS, now)
        if new is not None:
            certificates += serial(new) != serial(bundle)
            bundle = new
            assert trusts(known, bundle.certificate, now)
            assert trusts(bundle.authorities, bundle.certificate, now)
        most = max(most, authorities_in(bundle))
        known = bundle.authorities
    assert trusts(known, bundle.certificate, now)
    assert 50 <= certificates <= 60
    assert most == 2


def test_a_new_authority_signs_only_once_it_is_known() -> None:
    now = START + AUTHORITY_LIFE * 0.67
    # A certificate that is due half an hour after its authority is.
    bundle = renewed(made(), HOSTS, now + HOUR / 2 - CERTIFICATE_LIFE * 2 / 3)
    assert bundle is not None and authorities_in(bundle) == 1
    both = renewed(bundle, HOSTS, now)
    assert both is not None and authorities_in(both) == 2
    assert both.certificate == bundle.certificate
    assert renewed(both, HOSTS, now + PUBLISH - HOUR / 4) is None
    new = renewed(both, HOSTS, now + PUBLISH)
    assert new is not None and new.authorities == both.authorities
    assert trusts(both.authorities, new.certificate, now + PUBLISH)
    assert not trusts(bundle.authorities, new.certificate, now + PUBLISH)


def test_an_expired_certificate_is_replaced_by_one_of_the_same_authority() -> None:
    bundle = made()
    now = START + CERTIFICATE_LIFE + HOUR
    new = renewed(bundle, HOSTS, now)
    assert new is not None and new.authorities == bundle.authorities
    assert trusts(bundle.authorities, new.certificate, now)


def test_another_service_name_gets_another_certificate_at_once() -> None:
    bundle = made()
    new = renewed(bundle, ("other.system.svc",), START + HOUR / 2)
    assert new is not None
    assert trusts(bundle.authorities, new.certificate, START + HOUR, "other.system.svc")


@pytest.mark.parametrize("late", [CERTIFICATE_LIFE, AUTHORITY_LIFE, 10 * AUTHORITY_LIFE])
def test_after_a_long_sleep_everything_is_made_anew(late: timedelta) -> None:
    now = START + late + HOUR
    new = renewed(made(), HOSTS, now)
    assert new is not None
    assert trusts(new.authorities, new.certificate, now)
    assert renewed(new, HOSTS, now) is None


def test_a_clock_set_back_before_the_bundle_began_makes_it_anew() -> None:
    new = renewed(made(), HOSTS, START - AUTHORITY_LIFE)
    assert new is not None
    assert trusts(new.authorities, new.certificate, START - AUTHORITY_LIFE)


def test_a_secret_gives_back_what_was_put_in() -> None:
    bundle = made()
    data = bundle.to_secret()
    assert set(data) == {"tls.crt", "tls.key", "ca.crt", "ca.key"}
    assert from_secret({**data, "other": "x"}) == bundle


OTHER = made()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"tls.crt": ""},
        {**OTHER.to_secret(), "tls.crt": "***"},
        {**OTHER.to_secret(), "tls.crt": 5},
        {**OTHER.to_secret(), "tls.key": ""},
        {**OTHER.to_secret(), "ca.crt": b64encode(b"no certificate").decode()},
        {**OTHER.to_secret(), "tls.key": made().to_secret()["tls.key"]},
        {**OTHER.to_secret(), "ca.key": made().to_secret()["ca.key"]},
    ],
)
def test_a_secret_that_is_not_whole_is_none(data: Any) -> None:
    assert from_secret(data) is None


def test_a_certificate_of_another_authority_is_replaced() -> None:
    stranger, bundle = made(), made()
    mixed = Bundle(stranger.certificate, stranger.key, bundle.authorities, bundle.authority_key)
    new = renewed(mixed, HOSTS, START)
    assert new is not None
    assert trusts(bundle.authorities, new.certificate, START)
