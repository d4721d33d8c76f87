"""An endpoint's TLS context: what it leaves behind when a broker goes away in the middle of a handshake."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from iotcore.wire.arrival import Endpoint
from tests.support.certificates import ThrowawayAuthority


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    authority = ThrowawayAuthority(tmp_path)
    pair = authority.issue("sd-1")
    return Endpoint("127.0.0.1", 1, authority.ca_file, pair.cert_file, pair.key_file).tls()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["hangs up", "speaks no TLS"])
def test_a_handshake_that_fails_leaves_no_open_socket(context: ssl.SSLContext, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        plain = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
        with connection:
            connection.sendall(answer)
        wrapped = context.wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False)
        with pytest.raises(OSError):  # noqa: PT011 - which of them is the network's choice
            wrapped.do_handshake()
        assert wrapped.fileno() == -1
