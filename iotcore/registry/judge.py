"""Who gets a certificate. Pure: facts and a request in, a verdict out; what it uses up is marked in the facts.

by a secret       a token of the device → the secret of a unit, or a token of its batch, and the device it is bound to
by a certificate  for itself: a renewal; for another name: that must be its registered child
then              may the device enrol? has it the anchor? was the key somebody else's? must a person approve?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from iotcore.registry import asked as words
from iotcore.registry.asked import Admitted, Asked, ByCertificate, BySecret, RefusedRequest, Verdict, Waiting
from iotcore.registry.facts import APPROVED, ISSUED, REFUSED, WAITS, BatchToken, Device, Facts, Key, Request, Token, Unit
from iotcore.registry.tokens import ENROLLABLE

MAX_WAITING = 1_000  # requests that wait for a person at a time
MAX_WAITING_OF_DEVICE = 5  # of them, different keys of one device

TOLD = "unknown, used, expired, or bound to another device; ask for a new one"
NO_RIGHT = RefusedRequest(words.TOKEN, TOLD)


@dataclass(frozen=True, slots=True)
class _Right:
    """What proves itself good: for which device, what it spends, whether a person has to approve. `late`: its time is over."""

    device: str
    spends: Admitted
    secret: str = ""
    approval: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """`anchors_of(model)`: the anchors that a device of this model may have, its usual one first."""

    facts: Facts
    anchors_of: Callable[[str], Sequence[str]]
    approval: bool = False
    poll_s: float = words.POLL_S

    def verdict(self, asked: Asked) -> Verdict:
        """Judge one request; what an admitted one uses up is gone for the next."""
        right = self._right(asked)
        if not isinstance(right, _Right):
            return right
        verdict: Verdict = self._allowed(asked, right)
        if isinstance(verdict, Admitted):
            verdict = self._approved(asked, right, verdict)
        if isinstance(verdict, Admitted):
            self._use_up(asked, verdict)
        return verdict

    def _right(self, asked: Asked) -> _Right | RefusedRequest | Waiting:
        if isinstance(asked.right, ByCertificate):
            return self._by_certificate(asked, asked.right)
        return self._by_secret(asked, asked.right.hash)

    def asks_a_person(self, asked: Asked) -> bool:
        """Whether what persons have said of it matters."""
        if not isinstance(asked.right, BySecret):
            return False
        token = self.facts.tokens.get(asked.right.hash)
        batch = self.facts.batch_tokens.get(asked.right.hash)
        return self.approval or (token is not None and token.approval) or (batch is not None and batch.approval)

    def _by_secret(self, asked: Asked, secret: str) -> _Right | RefusedRequest | Waiting:
        token = self.facts.tokens.get(secret)
        if token is not None:
            return self._token(asked, token)
        batch = self.facts.batch_tokens.get(secret)
        for unit in self.facts.units.get(asked.name, ()):
            if unit.secret == secret:
                return self._unit(unit, secret, None)
            if batch is not None and batch.batch == unit.batch:
                return self._unit(unit, secret, batch)
        return replace(NO_RIGHT, why="unknown" if batch is None else "of another batch")

    def _token(self, asked: Asked, token: Token) -> _Right | RefusedRequest:
        why = _spoilt(token.used_ms, token.revoked_ms) or ("wrong_device" if token.device != asked.name else "")
        if why:
            return replace(NO_RIGHT, why=why)
        spends = Admitted(token.device, "", token.device, registered=False, token=token.hash)
        approval = token.approval or self.approval
        return _Right(token.device, spends, token.hash, approval, token.expires_ms <= self.facts.now_ms)

    def _unit(self, unit: Unit, secret: str, batch: BatchToken | None) -> _Right | RefusedRequest | Waiting:
        now_ms = self.facts.now_ms
        why = _spoilt(unit.spent_ms, unit.revoked_ms) or ("expired" if unit.expires_ms <= now_ms else "")
        if batch is not None and not why:
            why = _spoilt(now_ms if batch.used >= batch.uses else None, batch.revoked_ms)
        if why:
            return replace(NO_RIGHT, why=why)
        late = batch is not None and batch.expires_ms <= now_ms
        place = self.facts.devices.get(unit.device or "")
        if place is not None and place.serial not in ("", unit.serial):
            return replace(NO_RIGHT, why="another unit stands there now")
        if unit.device is None:
            if late:
                return replace(NO_RIGHT, why="expired")
            told = f"unit {unit.serial} is known, and stands nowhere yet; ask again when it was bound to its place"
            return Waiting(words.UNBOUND, told, self.poll_s)
        by = unit.device
        spends = Admitted(unit.device, "", by, registered=False, claim=unit.id, batch_token=batch.hash if batch else "")
        approval = self.approval or (batch is not None and batch.approval)
        return _Right(unit.device, spends, secret, approval, late)

    def _by_certificate(self, asked: Asked, right: ByCertificate) -> _Right | RefusedRequest:
        if right.serial in self.facts.revoked:
            return RefusedRequest(words.CERTIFICATE, "it is revoked")
        if asked.name != right.holder:
            holder, child = self.facts.devices.get(right.holder), self.facts.devices.get(asked.name)
            if holder is None or holder.state not in ENROLLABLE:
                return RefusedRequest(words.CERTIFICATE, f"{right.holder} may enrol nobody: it is not in service")
            if child is None or child.parent != right.holder:
                return RefusedRequest(words.NOT_A_CHILD, f"{asked.name} is not registered as a child of {right.holder}")
        return _Right(asked.name, Admitted(asked.name, "", right.holder, registered=False))

    def _allowed(self, asked: Asked, right: _Right) -> Admitted | RefusedRequest:
        device = self.facts.devices.get(right.device)
        anchors = self.anchors_of(device.model) if device is not None and device.state in ENROLLABLE else ()
        if device is None or not anchors:
            return self._not_in_service(asked, right, device)
        if asked.anchor and asked.anchor not in anchors:
            return RefusedRequest(words.ANCHOR, f"{device.id} gets no certificate of the {asked.anchor} anchor")
        for known in self.facts.keys.get(asked.key, ()):
            if known.cn != device.id:
                told = "this key has a certificate of another device; make a key on the device itself, a fresh one"
                return RefusedRequest(words.KEY_ELSEWHERE, told, f"of {known.cn}")
        if _is_dead(self.facts.keys.get(asked.key, ())):
            return RefusedRequest(words.KEY_REVOKED, "the last certificate of this key was revoked; make a fresh key")
        return replace(right.spends, device=device.id, anchor=asked.anchor or anchors[0], registered=device.state == "registered")

    def _not_in_service(self, asked: Asked, right: _Right, device: Device | None) -> RefusedRequest:
        why = "not registered" if device is None else f"device is {device.state}"
        if isinstance(asked.right, BySecret):
            return replace(NO_RIGHT, why=why)
        wanted = f" of the {asked.anchor} anchor" if asked.anchor else ""
        return RefusedRequest(words.ANCHOR, f"{right.device} may have no certificate{wanted} (any more)", why)

    def _approved(self, asked: Asked, right: _Right, admitted: Admitted) -> Verdict:
        """An approval outlives the token's own time: who approved has looked."""
        if not right.approval:
            return replace(NO_RIGHT, why="expired") if right.late else admitted
        key = (admitted.device, asked.key, admitted.anchor)
        request = self.facts.requests.get(key)
        if request is None or request.expires_ms <= self.facts.now_ms or request.token != right.secret:
            return replace(NO_RIGHT, why="expired") if right.late else self._opened(asked, right, admitted)
        if request.state == APPROVED:
            return replace(admitted, request=request.id)
        if request.state == REFUSED:
            return RefusedRequest(words.REJECTED, request.reason or "a person has looked at it and said no")
        if request.state == ISSUED:
            return replace(NO_RIGHT, why="used")
        return Waiting(words.PENDING, "a person has to approve it", self.poll_s)

    def _opened(self, asked: Asked, right: _Right, admitted: Admitted) -> Waiting:
        mine = self.facts.waiting.get(admitted.device, 0)
        if self.facts.all_waiting >= MAX_WAITING or mine >= MAX_WAITING_OF_DEVICE:
            return Waiting(words.BUSY, "too many requests wait for a person", self.poll_s)
        self.facts.waiting[admitted.device] = mine + 1
        self.facts.all_waiting += 1
        key = (admitted.device, asked.key, admitted.anchor)
        self.facts.requests[key] = Request(0, *key, right.secret, WAITS, self.facts.now_ms + 1, "")
        told = "a person has to approve it"
        return Waiting(words.PENDING, told, self.poll_s, admitted.device, admitted.anchor, right.secret)

    def _use_up(self, asked: Asked, admitted: Admitted) -> None:
        now_ms = self.facts.now_ms
        if admitted.registered:
            self.facts.devices[admitted.device].state = "provisioned"
        self.facts.keys[asked.key].append(Key(asked.key, admitted.device, now_ms, None))
        if admitted.token:
            self.facts.tokens[admitted.token].used_ms = now_ms
        for unit in self.facts.units.get(asked.name, ()):
            if unit.id == admitted.claim:
                unit.spent_ms = now_ms
        if admitted.batch_token:
            self.facts.batch_tokens[admitted.batch_token].used += 1


def _spoilt(used_ms: int | None, revoked_ms: int | None) -> str:
    if revoked_ms is not None:
        return "revoked"
    return "used" if used_ms is not None else ""


def _is_dead(certificates: Sequence[Key]) -> bool:
    """Whether the newest certificate of a key was revoked. One that was followed by another of the same key does not count."""
    return bool(certificates) and max(certificates, key=lambda one: one.issued_ms).revoked_ms is not None
