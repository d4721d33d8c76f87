"""Outgoing requests reach public addresses and what the settings allow, whatever a name means, or means a moment later."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from iotcore.clock import SystemClock
from iotcore.dispatch.egress import CheckedResolver, Egress, NotAllowed
from iotcore.dispatch.post import HttpLink
from iotcore.errors import DeliveryError
from tests.support.ports import free_port

PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",  # own machine, own network, carrier
    "169.254.169.254", "fe80::1", "fd00:ec2::254",  # link-local, where clouds tell their secrets; unique local
    "0.0.0.0", "::", "::1", "255.255.255.255", "224.0.0.1", "ff02::1", "192.0.2.1", "240.0.0.1",
    "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert Egress().allows(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_any_other_address_is_not_in_whatever_dress(address: str) -> None:
    assert not Egress().allows(ip_address(address))


def test_what_the_settings_allow_is_allowed_and_no_more() -> None:
    some = Egress(networks=(ip_network("10.20.0.0/16"),))
    assert [some.allows(ip_address(one)) for one in ("10.20.3.4", "::ffff:10.20.3.4", "10.21.0.1", "127.0.0.1")] == [
        True, True, False, False,
    ]  # fmt: skip
    everything = Egress(allow_private=True)
    assert everything.allows(ip_address("127.0.0.1"))
    assert not everything.allows(ip_address("224.0.0.1"))


@given(st.ip_addresses())
def test_no_address_is_beyond_judgement_and_private_ones_never_pass(address: Any) -> None:
    if address.is_private or address.is_loopback or address.is_link_local:
        assert not Egress().allows(address) or address in ip_network("64:ff9b::/96")


@pytest.mark.parametrize(
    ("url", "egress"),
    [
        ("http://93.184.216.34/", Egress()),
        ("ftp://93.184.216.34/", Egress(allow_http=True)),
        ("https://127.0.0.1/", Egress()),
        ("https://[::1]:8443/", Egress()),
        ("http://169.254.169.254/latest/meta-data/", Egress(allow_http=True)),
    ],
)
def test_an_address_in_the_url_is_judged_before_anything_is_sent(url: str, egress: Egress) -> None:
    with pytest.raises(DeliveryError, match="not_allowed"):
        egress.check(url)


def answers(monkeypatch: pytest.MonkeyPatch, *rounds: list[str]) -> list[str]:
    """Let names mean addresses, another round of them each time; who was asked for."""
    asked: list[str] = []
    left = list(rounds)

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        meant = left.pop(0) if len(left) > 1 else left[0]
        kind = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(kind[ip_address(one).version], socket.SOCK_STREAM, 6, "", (one, port)) for one in meant]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def test_of_a_names_addresses_only_allowed_ones_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["10.0.0.1", "93.184.216.34"], ["10.0.0.1", "127.0.0.1"])
    resolver = CheckedResolver(Egress())
    assert [one["host"] for one in await resolver.resolve("cad.example", 443)] == ["93.184.216.34"]
    with pytest.raises(NotAllowed, match=r"cad.example means 10.0.0.1, 127.0.0.1, which is not public; allow_private"):
        await resolver.resolve("cad.example", 443)


async def ask(url: str, egress: Egress) -> tuple[int, bytes]:
    link = HttpLink(SystemClock(), 2.0, egress)
    try:
        return await link.ask("POST", url, b"{}", dict, lambda _: None)
    finally:
        await link.close()


async def served(app: web.Application) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, port


async def test_a_name_that_means_this_machine_is_refused_and_one_that_comes_to_mean_it_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hits: list[str] = []

    async def hit(request: web.Request) -> web.Response:
        hits.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hit)
    runner, port = await served(app)
    url = f"http://rebinding.example:{port}/"
    asked = answers(monkeypatch, ["127.0.0.1"])
    with pytest.raises(DeliveryError, match="not_allowed"):
        await ask(url, Egress(allow_http=True))
    assert hits == []
    assert asked == ["rebinding.example"]
    assert (await ask(url, Egress(allow_http=True, networks=(ip_network("127.0.0.0/8"),))))[0] == 200
    assert asked == ["rebinding.example"] * 2  # resolved once a connection, and connected to what was judged
    await runner.cleanup()


async def test_neither_a_redirect_nor_an_endless_header_nor_a_proxy_of_the_environment_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    hits: list[str] = []

    async def hit(request: web.Request) -> web.Response:
        hits.append(request.path)
        if request.path == "/long":
            return web.Response(headers={"X-Long": "a" * 20_000})
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hit)
    runner, port = await served(app)
    here = Egress(allow_http=True, allow_private=True)
    assert (await ask(f"http://127.0.0.1:{port}/", here))[0] == 302
    with pytest.raises(DeliveryError, match="connection_lost"):
        await ask(f"http://127.0.0.1:{port}/long", here)
    assert hits == ["/", "/long"]
    await runner.cleanup()
