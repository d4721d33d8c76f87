"""The order of a sync and of what was sent is read rightly out of strace's log, threads and interrupted calls included."""

from __future__ import annotations

from tests.support.strace_log import Call, calls, synced_between

TO_BROKER = "TCP:[127.0.0.1:5->127.0.0.1:8884]"


def hexadecimal(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


WAL = hexadecimal("/data/spool-1.db-wal")
LOG = f"""\
7 recvfrom(9<{TO_BROKER}>, "{hexadecimal("ask")}", 262144, 0, NULL, NULL) = 3
8 fdatasync(11<{WAL}> <unfinished ...>
7 recvfrom(9<{TO_BROKER}>, 0x7f0, 262144, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
7 sendto(9<{TO_BROKER}>, "{hexadecimal("early")}", 5, 0, NULL, 0) = 5
8 <... fdatasync resumed>)          = 0
7 read(3<{hexadecimal("/lib/x.pyc")}>, "{hexadecimal("code")}", 100) = 4
7 sendmsg(9<{TO_BROKER}>, {{msg_name=NULL, msg_iov=[{{iov_base="{hexadecimal("la")}", iov_len=2}}, \
{{iov_base="{hexadecimal("tex")}", iov_len=3}}], msg_iovlen=2}}, 0) = 4
8 fdatasync(11<{WAL}>) = -1 EIO (Input/output error)
""".splitlines()
ARRIVED, EARLY, LATE = 0, 3, 6


def test_a_call_has_the_line_of_its_entry_and_of_its_result_and_the_bytes_that_moved() -> None:
    assert list(calls(LOG)) == [
        Call("recvfrom", TO_BROKER, 0, 0, b"ask"),
        Call("sendto", TO_BROKER, 3, 3, b"early"),
        Call("fdatasync", "/data/spool-1.db-wal", 1, 4, b""),
        Call("sendmsg", TO_BROKER, 6, 6, b"late"),
    ]


def test_a_sync_counts_only_if_it_began_after_the_one_and_was_done_before_the_other() -> None:
    made = list(calls(LOG))
    assert synced_between(made, "spool-1.db-wal", ARRIVED, LATE)
    assert not synced_between(made, "spool-1.db-wal", ARRIVED, EARLY), "it had begun, and was not done"
    assert not synced_between(made, "spool-1.db-wal", 2, LATE), "it had begun before the reading came"
    assert not synced_between(made, "journal.db-wal", ARRIVED, LATE), "another file"
