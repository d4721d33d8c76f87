"""Issuing keys in a security module, with SoftHSM: what it signs is good, nothing leaves it, and without it all says why."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp as requests
from pkcs11 import Attribute, ObjectClass

from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import EnrolmentError, SigningError, StartError
from iotcore.keeper import Keeper
from iotcore.provision import ocsp, token_key
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, write_home
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.est_client import EstServer
from iotcore.provision.identity import new_key, own_certificate
from iotcore.provision.issuers import Module
from iotcore.provision.token_key import Place, TokenKey
from tests.integration.test_pkilint import URN, lint_certificate, lint_lists
from tests.support import commands
from tests.support.enrolling import CITY, book, listening
from tests.support.pki import PASSPHRASE, run, trust_file
from tests.support.requests import p256
from tests.support.softhsm import PIN, SoftHsm, softhsm
from tests.support.until import until

TOKENS = ("one", "two")
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    before = os.environ.get("SOFTHSM2_CONF")
    made = softhsm(tmp_path_factory.mktemp("softhsm"))
    for label in TOKENS:
        made.token(label)
    yield made
    os.environ.pop("SOFTHSM2_CONF")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def module(hsm: SoftHsm) -> Module:
    return Module(str(hsm.library), "one")


def authority(folder: Path, module: Module | None, pin: str = PIN) -> Authority:
    return Authority.ensure(folder / "ca", PASSPHRASE, CLOCK, "http://127.0.0.1:8085/crl", pin=pin, at=module)


def key_of(ours: Authority, anchor: Anchor) -> TokenKey:
    key: Any = ours.issuers(anchor).signs.issuer.key
    assert isinstance(key, TokenKey)
    return key


async def test_what_a_key_in_the_token_signs_is_good_to_openssl_and_pkilint(tmp_path: Path, module: Module) -> None:
    ours = authority(tmp_path, module)
    issued = ours.issue_device(Anchor.FIRE, p256().public_key(), "d-1")
    revoked = ours.issue_device(Anchor.FIRE, p256().public_key(), "d-2")
    ours.revoke(Anchor.FIRE, revoked.serial, x509.ReasonFlags.superseded)
    trust, lists = tmp_path / "trust.pem", tmp_path / "crl.pem"
    trust.write_bytes(ours.trust_pem(Anchor.FIRE))
    lists.write_bytes(ours.crl_pem(Anchor.FIRE))
    for one, wanted in ((issued, 0), (revoked, 2)):
        file = tmp_path / f"{one.cn}.pem"
        file.write_bytes(one.pem)
        code, _, said = await run("openssl", "verify", "-crl_check", "-CRLfile", lists, "-CAfile", trust, file)
        assert code == wanted, said
    certificate = x509.load_pem_x509_certificate(issued.pem)
    assert await lint_certificate(certificate, ours.issuers(Anchor.FIRE).signs.certificate, tmp_path) == [
        (URN[0], URN[1].format("d-1"))
    ]
    assert await lint_lists(ours, Anchor.FIRE) == []
    service = x509.load_pem_x509_certificate(ours.issue_service("svc.fire.1.in").certificate.pem)
    service.verify_directly_issued_by(ours.issuers(Anchor.SERVICE).signs.certificate)


async def test_ocsp_is_signed_there_too_and_says_try_later_without_it(tmp_path: Path, hsm: SoftHsm, module: Module) -> None:
    ours = authority(tmp_path, module)
    issued = x509.load_pem_x509_certificate(ours.issue_device(Anchor.FIRE, p256().public_key(), "d-1").pem)
    issuer = ours.issuers(Anchor.FIRE).signs.certificate
    asked = requests.OCSPRequestBuilder().add_certificate(issued, issuer, hashes.SHA256()).build()
    der = asked.public_bytes(serialization.Encoding.DER)

    async def known(_: str) -> bool:
        return True

    answer = requests.load_der_ocsp_response(await ocsp.answer(ours, known, CLOCK, der))
    assert answer.certificate_status is requests.OCSPCertStatus.GOOD
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    with hsm.taken_away():
        answer = requests.load_der_ocsp_response(await ocsp.answer(ours, known, CLOCK, der))
        assert answer.response_status is requests.OCSPResponseStatus.TRY_LATER


def test_the_key_does_not_leave_the_token(tmp_path: Path, module: Module) -> None:
    ours = authority(tmp_path, module)
    key = key_of(ours, Anchor.FIRE)
    handle = token_key._module(module.library).session("one", PIN).get_key(
        object_class=ObjectClass.PRIVATE_KEY, label=key.place.key
    )  # fmt: skip
    assert (handle[Attribute.EXTRACTABLE], handle[Attribute.SENSITIVE], handle[Attribute.NEVER_EXTRACTABLE]) == (
        False,
        True,
        True,
    )
    assert handle[Attribute.LOCAL], "it was made in there"
    with pytest.raises(pkcs11.exceptions.PKCS11Error):
        handle[Attribute.VALUE]
    for leaving in (key.private_numbers, key.private_bytes):
        with pytest.raises(TypeError, match="does not leave it"):
            leaving()
    assert list((tmp_path / "ca").rglob("issuing.key")) == [], "there is no file with a key"
    for path in (one for one in (tmp_path / "ca").rglob("*") if one.is_file()):
        assert PIN.encode() not in path.read_bytes(), path


def test_a_wrong_pin_is_told_without_saying_it(tmp_path: Path, hsm: SoftHsm) -> None:
    ours = authority(tmp_path, Module(str(hsm.library), "two"))
    token_key._module(str(hsm.library)).begin_again()  # as in another process, that has not logged in yet
    wrong = Authority.open(ours.folder, PASSPHRASE, CLOCK, pin="1234-5678")
    with pytest.raises(
        SigningError, match=r"key 'iotcore fire-1 .*' of token 'two' cannot be used: WrongPin: the PIN is wrong"
    ) as error:
        wrong.issue_device(Anchor.FIRE, p256().public_key(), "d-1")
    assert "1234-5678" not in str(error.value)
    time.sleep(token_key.RETRY_S)
    with pytest.raises(SigningError, match="is not tried again, for the token would lock itself"):
        wrong.issue_device(Anchor.FIRE, p256().public_key(), "d-1")
    assert wrong.published_crl("fire") is not None, "what needs no signature goes on"


def test_what_is_not_there_is_told_at_its_making(tmp_path: Path, hsm: SoftHsm) -> None:
    with pytest.raises(StartError, match="of token 'three' cannot be used: NoSuchToken"):
        authority(tmp_path / "a", Module(str(hsm.library), "three"))
    with pytest.raises(StartError, match=r"The PKCS#11 module /nowhere\.so cannot be used"):
        authority(tmp_path / "b", Module("/nowhere.so", "one"))


def test_another_key_of_the_same_label_is_not_used(tmp_path: Path, module: Module) -> None:
    ours = authority(tmp_path, module)
    place = key_of(ours, Anchor.FIRE).place
    other = key_of(ours, Anchor.FIELD).place
    file = ours.folder / "fire" / "1" / "issuing.token"
    file.write_text(f'{{"module":"{place.module}","token":"one","key":"{other.key}"}}')
    mixed = Authority.open(ours.folder, PASSPHRASE, CLOCK, pin=PIN)
    with pytest.raises(SigningError, match="it is another key than that of the certificate"):
        mixed.issue_device(Anchor.FIRE, p256().public_key(), "d-1")
    file.write_text("{}")
    with pytest.raises(StartError, match="makes no sense"):
        Authority.open(ours.folder, PASSPHRASE, CLOCK, pin=PIN)


async def test_while_the_token_is_gone_enrolment_says_503_and_why_and_recovers_by_itself(
    tmp_path: Path, hsm: SoftHsm, module: Module
) -> None:
    ours = authority(tmp_path, module)
    async with book(tmp_path, CITY) as kept, listening(kept, ours, tmp_path, ManualClock()) as listener:
        for token in ("t0", "t1"):
            await kept.give(token, "d1")
        server, key = EstServer(f"https://localhost:{listener.port}", trust_file(ours, tmp_path)), new_key("d1")

        async def enrolled(token: str) -> x509.Certificate:
            answer = await asyncio.to_thread(server.enrol, key.request, Anchor.FIRE, "d1", token)
            return own_certificate(answer, key, "d1")

        await enrolled("t0")
        with hsm.taken_away():
            for _ in range(2):
                with pytest.raises(EnrolmentError, match="the signing key does not answer; nothing was used up") as error:
                    await enrolled("t1")
                assert error.value.reason == "http_503"
        await asyncio.sleep(token_key.RETRY_S)
        certificate = await enrolled("t1")
        certificate.verify_directly_issued_by(ours.issuers(Anchor.FIRE).signs.certificate)


def test_what_signs_nothing_starts_and_goes_on_without_the_token(tmp_path: Path, hsm: SoftHsm, module: Module) -> None:
    ours = authority(tmp_path, module)
    issued = ours.issue_device(Anchor.FIRE, p256().public_key(), "d-1")
    home = BrokerHome(BrokerName.FIRE, tmp_path / "broker", 8883)
    write_home(ours, home)
    with hsm.taken_away():
        again = Authority.open(ours.folder, PASSPHRASE, CLOCK, pin=PIN)
        write_home(again, home)  # a broker's start: its certificate is good
        assert again.anchor_of(x509.load_pem_x509_certificate(issued.pem)) is Anchor.FIRE
        assert not again.is_revoked(Anchor.FIRE, issued.serial)
        with pytest.raises(SigningError, match="cannot be used"):
            again.republish()
        began_s = time.monotonic()
        with pytest.raises(SigningError):
            again.republish()
        assert time.monotonic() - began_s < 0.5, "a module that is gone is not asked at each try"
    time.sleep(token_key.RETRY_S)
    again.republish()


async def test_the_keeper_says_once_that_it_cannot_sign_the_lists_and_signs_them_when_the_token_is_back(
    tmp_path: Path, hsm: SoftHsm, module: Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("iotcore.keeper.LOOK_S", 0.05)
    ours = authority(tmp_path, module)
    before = ours.published_crl("fire")
    with hsm.taken_away():
        running = asyncio.create_task(Keeper(republish=ours.republish, overdue=list, clock=CLOCK).run())
        await until(lambda: "could not be published" in caplog.text, 10.0)
        await asyncio.sleep(0.5)
        assert caplog.text.count("could not be published") == 1
        assert "cannot be used" in caplog.text
    await until(lambda: ours.published_crl("fire") != before, 10.0)
    running.cancel()
    await asyncio.wait({running})


def test_threads_that_sign_at_once_do_not_get_into_each_other_s_way(tmp_path: Path, module: Module) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - beside its one use

    ours = authority(tmp_path, module)
    above = ours.issuers(Anchor.FIRE).signs.certificate
    with ThreadPoolExecutor(8) as pool:
        issued = list(pool.map(lambda n: ours.issue_device(Anchor.FIRE, p256().public_key(), f"d-{n}"), range(200)))
    for one in issued:
        x509.load_pem_x509_certificate(one.pem).verify_directly_issued_by(above)
    assert len({one.serial for one in issued}) == 200


async def test_an_operator_moves_a_key_from_a_file_into_the_token(tmp_path: Path, hsm: SoftHsm) -> None:
    config = tmp_path / "iotcore.toml"
    config.write_text(f'data = "{tmp_path / "data"}"\n')
    given = {**os.environ, "IOTCORE_CA_PASSPHRASE": PASSPHRASE.decode(), "IOTCORE_CA_PIN": PIN}

    async def iotcore(*words: str, environment: dict[str, str] = given) -> tuple[int, str]:
        done = await asyncio.to_thread(commands.run, "ca", *words, "--config", config, env=environment)
        return done.returncode, done.stdout + done.stderr

    in_token = ("--pkcs11", str(hsm.library), "--token", "one")
    assert (await iotcore("init"))[0] == 0
    code, said = await iotcore("init", *in_token)
    assert code == 1
    assert "iotcore ca issue-intermediate" in said
    code, said = await iotcore("issue-intermediate", "fire", *in_token, environment={**given, "IOTCORE_CA_PIN": "wrong"})
    assert code == 1
    assert "the PIN is wrong" in said
    code, said = await iotcore("rotate", "fire", "--token", "one")
    assert (code, "--pkcs11 and --token together" in said) == (1, True)
    code, said = await iotcore("rotate", "fire", *in_token)
    assert code == 0, said
    assert "signs from now on" in said
    ours = Authority.open(tmp_path / "data" / "ca", PASSPHRASE, CLOCK, pin=PIN)
    assert key_of(ours, Anchor.FIRE).place == Place(str(hsm.library), "one", key_of(ours, Anchor.FIRE).place.key)
    assert [isinstance(one.issuer.key, TokenKey) for one in ours.trusted(Anchor.FIRE)] == [True, False], "both are trusted"
    ours.republish()
    assert (await iotcore("status"))[0] == 0
