"""Prometheus metrics, declared in one place; no device-id labels. `lane` is fire or telemetry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

stored = Counter("iotcore_lane_readings_stored_total", "Readings made durable", ["lane"])
duplicates = Counter("iotcore_lane_duplicates_dropped_total", "Readings that came again and were dropped by identity", ["lane"])
refused = Counter("iotcore_lane_refused_total", "Messages refused and quarantined", ["lane", "reason"])
commit_failures = Counter("iotcore_lane_commit_failures_total", "Commits that the disk refused", ["lane"])
ingest_reconnects = Counter(
    "iotcore_ingest_reconnects_total", "Connections to a broker that were lost and made anew", ["client", "reason"]
)

incidents_opened = Counter("iotcore_fire_incidents_opened_total", "Incidents opened")
alarm_latency = Histogram(
    "iotcore_fire_received_to_durable_seconds",
    "From the arrival of a reading to its incident on disk",
    buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.04, 0.1, 0.25, 1.0, 10.0),
)

spool_rows = Gauge("iotcore_spool_batches", "Batches in the spool that the store has not taken")
spool_bytes = Gauge("iotcore_spool_bytes", "Bytes in the spool that the store has not taken")
spool_evicted = Counter("iotcore_spool_evicted_total", "Readings dropped because the spool was full or too old")
store_written = Counter("iotcore_store_lines_written_total", "Lines that the store has taken")
store_rejected = Counter("iotcore_store_lines_rejected_total", "Lines that the store refused for good")
store_failures = Counter("iotcore_store_failures_total", "Writes that failed and are tried again", ["reason"])
store_expired = Counter("iotcore_store_rows_expired_total", "Rows deleted because they were older than is kept", ["table"])
rolled_until = Gauge("iotcore_rollup_until_seconds", "Up to which time (Unix, UTC) telemetry is rolled up", ["store"])
rollup_failures = Counter("iotcore_rollup_failures_total", "Rounds of rolling up that failed and are tried again", ["reason"])
rolled_again = Counter("iotcore_rollup_again_total", "Hours of a series made anew because values came late", ["store"])

dispatch_attempts = Counter("iotcore_dispatch_attempts_total", "Sends to receivers", ["outcome"])
