"""One line to Modbus units, over TCP, TLS, RTU in TCP or a serial port: questions, and never the late answer of an earlier one.

It connects when it is asked something. After a timeout, a wrong answer, a hang-up or a cancellation the connection is closed
and the next question makes a new one, so that a late answer finds nobody. Reads are all that the poller asks for; `write` is
for a technician's tools.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import termios
from pathlib import Path

from pymodbus.transport.serialtransport import create_serial_connection

from drivers.modbus import questions
from drivers.modbus.link import RESET, TLS_REFUSED, Link
from drivers.modbus.questions import Fault, Question, ReadWriteRequest, Reply, WriteRequest
from iotcore.specs.bus import Serial, of_limits
from iotcore.specs.model import ModbusLimits
from iotcore.specs.plan import Request
from iotcore.wire.modbus_address import Line, ModbusAddress

QUIET_LIMIT_S = 0.25  # a line that babbles for longer is asked all the same, and its answers fail by their checksum
CONNECT_S: dict[str, float] = {  # at least; while it is made, nothing else could be asked on this line
    "tcp": 1.5,  # a lost SYN is sent again after 1 s; RFC 6298, §2
    "rtu+tcp": 1.5,
    "rtu": 1.0,
    "tls": 5.0,  # and two certificates are checked, ours by a small machine
}
NO_LIMITS = ModbusLimits()
REFUSALS = {  # errno → what a person calls it
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.ENOENT: "no_such_port",
    errno.EACCES: "no_permission",
    errno.EPERM: "no_permission",
    errno.EAGAIN: "port_in_use",
    errno.EBUSY: "port_in_use",
    errno.ENOKEY: "no_certificate",
}
KINDS: tuple[tuple[type[Exception], str], ...] = (  # the first that fits
    (ssl.SSLCertVerificationError, "server_not_verified"),
    (ssl.SSLError, "tls_refused"),
    (TimeoutError, "timeout"),
    (socket.gaierror, "unknown_host"),
    (ValueError, "bad_serial_settings"),
    (termios.error, "bad_serial_settings"),  # no OSError: a port that has no parity, or not this speed
)


def serial_of(address: ModbusAddress, limits: ModbusLimits | None) -> Serial:
    """The serial line of a unit: what its connection string leaves open is as the unit is delivered."""
    spec = limits or NO_LIMITS
    return Serial(address.baud or spec.baud, address.parity or spec.parity, address.stop_bits or spec.stop_bits)


class Connection:
    """Ask one question at a time.

    `connects` counts the connections made, `unasked` the bytes that answered nothing.
    """

    def __init__(self, line: Line, serial: Serial | None = None, certs: Path | None = None) -> None:
        self.connects = 0
        self.unasked = 0
        self._hung_up = False
        self._line = line
        self._serial = serial or of_limits(NO_LIMITS)
        self._certs = certs
        self._is_rtu = line.scheme in {"rtu", "rtu+tcp"}
        self._link: Link | None = None
        self._let_in = False  # the server has answered us: from then on a hang-up is a unit's, not our certificate's

    async def read(self, device_id: int, request: Request, timeout_s: float) -> Reply:
        """Read what a planned request names. Every failure is a reply that says why."""
        return await self.ask(device_id, questions.read_of(request), timeout_s)

    async def write(self, device_id: int, request: WriteRequest | ReadWriteRequest, timeout_s: float) -> Reply:
        """Write, by function code 5, 6, 15, 16, 22 or 23. The reply to a write that was taken has no words, but for code 23.

        Raises:
            ValueError: Modbus cannot write that.
        """
        return await self.ask(device_id, questions.write_of(request), timeout_s)

    async def ask(self, device_id: int, question: Question, timeout_s: float) -> Reply:
        """The answer to one question, in `timeout_s`; a connection that must be made first has its own time."""
        try:
            link = self._open_link() or await self._connect(max(timeout_s, CONNECT_S[self._line.scheme]))
            if isinstance(link, Reply):
                return link
            if self._is_rtu:
                await self._silence(link)
            reply = await link.ask(device_id, question, timeout_s)
            self._let_in = self._let_in or link.answers > 0
            if reply is RESET and self._line.scheme == "tls" and not self._let_in:
                reply = TLS_REFUSED  # TLS 1.3 lets a client finish before the server has looked at its certificate
        except asyncio.CancelledError:
            self.close()
            raise
        if reply.fault is not Fault.NONE and not reply.why.startswith("exception:"):
            self._hung_up = self._hung_up or reply is RESET
            self.close()
        return reply

    def hung_up(self) -> bool:
        """Whether the other side has ended a connection since this was last asked."""
        self._open_link()
        found, self._hung_up = self._hung_up, False
        return found

    def close(self) -> None:
        """Drop the connection; the next question makes a new one."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
            self.unasked += link.unasked

    def _open_link(self) -> Link | None:
        if self._link is not None and self._link.lost:
            self._hung_up = True
            self.close()
        return self._link

    async def _connect(self, timeout_s: float) -> Link | Reply:
        link = Link(is_rtu=self._is_rtu)
        try:
            async with asyncio.timeout(timeout_s):
                await self._open(link)
        except (OSError, ssl.SSLError, ValueError, termios.error) as error:
            link.close()
            return Reply(why=_name(error), fault=Fault.LINE)
        except BaseException:
            link.close()
            raise
        self._link = link
        self.connects += 1
        return link

    async def _open(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        line, serial = self._line, self._serial
        if line.scheme == "rtu":
            rate = (serial.baud, 8, serial.parity, serial.stop_bits)
            await create_serial_connection(loop, lambda: link, line.host, *rate)
            await link.made
        elif line.scheme == "tls":
            context = await asyncio.to_thread(client_context, self._certs, line.identity)
            await loop.create_connection(lambda: link, line.host, line.port, ssl=context, server_hostname=line.host)
        else:
            await loop.create_connection(lambda: link, line.host, line.port)

    async def _silence(self, link: Link) -> None:
        """What ends the last frame on a serial line, so that ours begins a new one."""
        loop = asyncio.get_running_loop()
        limit_s = loop.time() + QUIET_LIMIT_S
        while (until_s := link.heard_s + self._serial.gap_s) > (now_s := loop.time()) and now_s < limit_s:  # noqa: ASYNC110 - bytes only move the time
            await asyncio.sleep(until_s - now_s)


def client_context(certs: Path | None, identity: str) -> ssl.SSLContext:
    """TLS as Modbus Security asks for: both sides show a certificate; Modbus/TCP Security v2.1, §8.

    `identity`.pem and .key are ours, `identity`-ca.pem is whom we trust.

    Raises:
        OSError: a file is missing or is no certificate.
    """
    if certs is None:
        raise FileNotFoundError(errno.ENOKEY, "no folder of certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(certs / f"{identity}-ca.pem")
        context.load_cert_chain(certs / f"{identity}.pem", certs / f"{identity}.key")
    except OSError as error:  # ssl.SSLError is one: no certificate in the file, or a key of another
        raise OSError(errno.ENOKEY, f"{certs / identity}.pem, .key and -ca.pem: {error}") from error
    return context


def _name(error: Exception) -> str:
    """The reason as it stands in a reading."""
    for kind, name in KINDS:
        if isinstance(error, kind):
            return name
    return REFUSALS.get(getattr(error, "errno", None) or 0, "unreachable")
