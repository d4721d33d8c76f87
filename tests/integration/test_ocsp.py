"""Lists and OCSP over HTTP, judged by OpenSSL's own client and by curl."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from iotcore.clock import SystemClock
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.provision.ca import Anchor, Authority
from iotcore.settings import check
from iotcore.web.revocation import RevocationListener
from tests.support.pki import PASSPHRASE, device_files, run
from tests.support.ports import free_port


@dataclass
class Served:
    """The listener, and what it takes for recorded."""

    folder: Path
    authority: Authority
    known: set[str]
    port: int

    def device(self, anchor: Anchor, name: str) -> tuple[Path, str]:
        """A recorded certificate and its serial."""
        certificate, _, issued = device_files(self.authority, self.folder, anchor, name)
        self.known.add(issued.serial)
        return certificate, issued.serial

    async def asked(self, anchor: Anchor, certificate: Path, *more: str) -> str:
        """What `openssl ocsp` says; it checks signature, nonce and times."""
        issuer, trust = self.folder / f"{anchor.value}-issuing.pem", self.folder / f"{anchor.value}.pem"
        issuer.write_bytes(self.authority.issuers(anchor).signs.certificate.public_bytes(Encoding.PEM))
        trust.write_bytes(self.authority.trust_pem(anchor))
        url = f"http://127.0.0.1:{self.port}/ocsp"
        code, out, err = await run(
            "openssl", "ocsp", "-issuer", issuer, *more, "-cert", certificate, "-CAfile", trust, "-url", url
        )
        assert code == 0, err
        assert "Response verify OK" in err
        assert "WARNING" not in err
        return out.decode()

    async def curl(self, path: str, *more: str) -> bytes:
        code, out, err = await run("curl", "-sS", "-f", *more, f"http://127.0.0.1:{self.port}{path}")
        assert code == 0, err
        return out


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    port, known = free_port(), set[str]()
    authority = Authority.ensure(tmp_path / "ca", PASSPHRASE, SystemClock(), f"http://127.0.0.1:{port}/crl")

    async def recorded(serial: str) -> bool:
        return serial in known

    async with RevocationListener(authority, recorded, SystemClock(), host="127.0.0.1", port=port):
        yield Served(tmp_path, authority, known, port)


async def test_the_place_that_a_certificate_names_serves_its_list_and_openssl_takes_it(served: Served) -> None:
    certificate, serial = served.device(Anchor.FIELD, "d-1")
    served.authority.revoke(Anchor.FIELD, serial)
    points = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    (point,) = points.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name is not None
    place = urllib.parse.urlsplit(point.full_name[0].value)
    assert (place.scheme, place.port, place.path) == ("http", served.port, "/crl/field-1.crl")
    root = served.folder / "root.pem"
    root.write_bytes(served.authority.trust_pem(Anchor.FIELD))
    code, _, said = await run("openssl", "verify", "-crl_check", "-crl_download", "-CAfile", root, certificate)
    assert code != 0
    assert "certificate revoked" in said
    kept, _ = served.device(Anchor.FIELD, "d-2")
    assert (await run("openssl", "verify", "-crl_check", "-crl_download", "-CAfile", root, kept))[0] == 0


@pytest.mark.parametrize("names", ["-sha1", "-sha256"])
async def test_openssl_hears_good_held_revoked_and_good_again(served: Served, names: str) -> None:
    certificate, serial = served.device(Anchor.FIRE, "d-1")
    assert f"{certificate}: good" in await served.asked(Anchor.FIRE, certificate, names)
    served.authority.revoke(Anchor.FIRE, serial, x509.ReasonFlags.certificate_hold)
    said = await served.asked(Anchor.FIRE, certificate, names)
    assert f"{certificate}: revoked" in said
    assert "Reason: certificateHold" in said
    served.authority.lift(Anchor.FIRE, serial)
    assert f"{certificate}: good" in await served.asked(Anchor.FIRE, certificate, names)
    served.authority.revoke(Anchor.FIRE, serial, x509.ReasonFlags.key_compromise)
    assert "Reason: keyCompromise" in await served.asked(Anchor.FIRE, certificate, names)


async def test_what_nobody_recorded_is_unknown_and_a_service_s_certificate_is_good_until_it_is_listed(served: Served) -> None:
    certificate, serial = served.device(Anchor.FIRE, "d-1")
    served.known.discard(serial)
    assert f"{certificate}: unknown" in await served.asked(Anchor.FIRE, certificate)
    pair = served.authority.issue_service("svc.fire.1.in")
    ours = served.folder / "service-client.pem"
    ours.write_bytes(pair.certificate.pem)
    assert f"{ours}: good" in await served.asked(Anchor.SERVICE, ours)
    served.authority.revoke(Anchor.SERVICE, pair.certificate.serial)
    assert f"{ours}: revoked" in await served.asked(Anchor.SERVICE, ours)


async def test_a_stranger_s_certificate_and_garbage_get_the_answer_that_the_standard_has_for_them(served: Served) -> None:
    stranger = Authority.ensure(served.folder / "other", PASSPHRASE, SystemClock())
    certificate, _, _ = device_files(stranger, served.folder / "other", Anchor.FIRE, "d-1")
    one = x509.load_pem_x509_certificate(certificate.read_bytes())
    builder = ocsp.OCSPRequestBuilder().add_certificate(one, stranger.issuers(Anchor.FIRE).signs.certificate, hashes.SHA256())
    request = builder.build().public_bytes(serialization.Encoding.DER)
    for der, status in (
        (request, ocsp.OCSPResponseStatus.UNAUTHORIZED),
        (b"garbage", ocsp.OCSPResponseStatus.MALFORMED_REQUEST),
        (request[:-1], ocsp.OCSPResponseStatus.MALFORMED_REQUEST),
    ):
        path = "/ocsp/" + urllib.parse.quote(base64.b64encode(der), safe="")
        assert ocsp.load_der_ocsp_response(await served.curl(path)).response_status is status
    status_only = ("-o", "/dev/null", "-w", "%{http_code}")
    typed = ("-H", "Content-Type: application/ocsp-request")
    for more, path, code in (
        (("-d", "x"), "/ocsp", b"415"),
        ((*typed, "-d", "x" * 5_000), "/ocsp", b"413"),
        ((), "/crl/other.crl", b"404"),
    ):
        _, out, _ = await run("curl", "-sS", *status_only, *more, f"http://127.0.0.1:{served.port}{path}")
        assert out == code, path


async def test_a_get_answers_as_a_post_does(served: Served) -> None:
    certificate, _ = served.device(Anchor.FIRE, "d-1")
    one = x509.load_pem_x509_certificate(certificate.read_bytes())
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        one, served.authority.issuers(Anchor.FIRE).signs.certificate, hashes.SHA1()
    )
    der = builder.build().public_bytes(serialization.Encoding.DER)
    got = await served.curl("/ocsp/" + urllib.parse.quote(base64.b64encode(der), safe=""))
    assert ocsp.load_der_ocsp_response(got).certificate_status is ocsp.OCSPCertStatus.GOOD


async def test_a_taken_port_is_one_clear_line_and_without_a_port_certificates_name_the_tls_listener(served: Served) -> None:
    async def nobody(_serial: str) -> bool:
        return False

    with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{served.port}"):
        async with RevocationListener(served.authority, nobody, SystemClock(), host="127.0.0.1", port=served.port):
            raise AssertionError
    assert home.crl_url(check({"data": "x"}, "t")) == "https://localhost:8443/crl"
    assert home.crl_url(check({"data": "x", "web": {"crl_port": 8085}}, "t")) == "http://localhost:8085/crl"


async def test_openssl_asks_whom_the_certificate_names(served: Served) -> None:
    certificate, _ = served.device(Anchor.FIRE, "d-1")
    code, out, _ = await run("openssl", "x509", "-in", certificate, "-noout", "-ocsp_uri")
    assert (code, out.decode().strip()) == (0, f"http://127.0.0.1:{served.port}/ocsp")
    assert f"{certificate}: good" in await served.asked(Anchor.FIRE, certificate)


def test_without_plain_http_no_responder_is_named(tmp_path: Path) -> None:
    authority = Authority.ensure(tmp_path / "ca", PASSPHRASE, SystemClock(), "https://localhost:8443/crl")
    certificate, _, _ = device_files(authority, tmp_path, Anchor.FIRE, "d-1")
    extensions = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.AuthorityInformationAccess)


async def test_a_list_that_another_process_signs_anew_is_read_anew(served: Served) -> None:
    certificate, serial = served.device(Anchor.FIRE, "d-1")
    assert f"{certificate}: good" in await served.asked(Anchor.FIRE, certificate)
    other = Authority.open(served.authority.folder, PASSPHRASE, SystemClock())
    other.revoke(Anchor.FIRE, serial, x509.ReasonFlags.superseded)
    assert f"{certificate}: revoked" in await served.asked(Anchor.FIRE, certificate)
    listed = x509.load_der_x509_crl(await served.curl("/crl/fire.crl"))
    assert listed.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
