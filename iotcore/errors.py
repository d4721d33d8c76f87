"""Every error that iotcore raises on purpose.

IotError                 what was wrong, where, and what to do
├── ConfigError          a configuration is refused whole; carries all its problems
│   └── SpecError        a device spec is refused
├── Refused              a message is not accepted; `reason` is a name operators and tests rely on
├── StoreError           a durable store (journal, spool, registry) could not keep its promise
│   └── StoreFull        the disk behind it is full
├── QueryError           a telemetry store cannot answer a question; says why and what to do
├── DeliveryError        a receiver did not take what we sent; says whether trying again may help
├── EnrolmentError       a certificate request is refused, with the reason told to the device
├── SigningError         an authority's key in a security module cannot be used now
└── StartError           a process cannot start: a taken port, a read-only folder, a missing program
"""

from __future__ import annotations

from dataclasses import dataclass


class IotError(Exception):
    """Base of every deliberate error."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where it stands, what is wrong, what to write instead."""

    file: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.reason}" if self.path else f"{self.file}: {self.reason}"


class ConfigError(IotError):
    """A configuration document is refused whole; `problems` holds every reason at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class SpecError(ConfigError):
    """A device spec is refused."""


class Refused(IotError):
    """A message that ingest does not accept. `reason` names why, `detail` helps a person."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class StoreError(IotError):
    """A durable store could not commit; nothing of the batch may be acknowledged."""


class StoreFull(StoreError):
    """The disk behind a store is full; free space, then it goes on by itself."""


class QueryError(IotError):
    """A question that a telemetry store cannot answer. `reason` is a name, `detail` says what to do."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class DeliveryError(IotError):
    """A receiver did not take a message. `recoverable` says whether a retry of the same can succeed."""

    def __init__(self, reason: str, detail: str = "", *, recoverable: bool = True) -> None:
        self.reason = reason
        self.detail = detail
        self.recoverable = recoverable
        super().__init__(f"{reason}: {detail}" if detail else reason)


class EnrolmentError(IotError):
    """A certificate request is refused; `reason` is told to the device and audited.

    `retry_s`: the same request may succeed after so many seconds (somebody has to approve, or we are busy); 0: it will not.
    """

    def __init__(self, reason: str, detail: str = "", retry_s: float = 0.0) -> None:
        self.reason = reason
        self.detail = detail
        self.retry_s = retry_s
        super().__init__(f"{reason}: {detail}" if detail else reason)


class SigningError(IotError):
    """An authority's key in a security module cannot be used now; it is tried again at the next use."""


class StartError(IotError):
    """A process cannot start. `thing` names what is in the way, `remedy` says what to do."""

    def __init__(self, thing: str, remedy: str) -> None:
        self.thing = thing
        self.remedy = remedy
        super().__init__(f"{thing}. {remedy}")
