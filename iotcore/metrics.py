"""Prometheus metrics, declared in one place; `iotcore.metrics_page` makes docs/metrics.md of it.

Names are `iotcore_<part>_<what>`, with `_total` for what only grows and `_seconds` or `_bytes` where it has a unit. `lane` is
fire or telemetry, `broker` fire, field or stray (what belongs to no worker). No label ever holds a device: a city has a hundred
thousand, and Prometheus keeps a series of each for ever. On the hot path a batch pays for its figures, never a message; what
something knows of itself anyway is asked when Prometheus comes (`Asked`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import prometheus_client
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

# they would be a second series for each counter, which only says when the process started
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

QUICK_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.04, 0.1, 0.25, 1.0, 10.0)
SLOW_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0)  # a store may be down for days


class Asked(Collector):
    """Figures that somebody keeps anyway, asked of them at each scrape: a function for each set of label values."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str] = (), registry: CollectorRegistry = REGISTRY) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = tuple(labels)
        self._sources: dict[tuple[str, ...], Callable[[], float]] = {}
        registry.register(self)

    @property
    def kind(self) -> str:
        """Counter or gauge, by its name."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def ask(self, source: Callable[[], float], *labels: str) -> None:
        """Ask `source` for these label values from now on."""
        self._sources[labels] = source

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """For the registry."""
        family = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        told = family(self.name, self.documentation, labels=self.labels)
        for labels, source in tuple(self._sources.items()):
            told.add_metric(labels, source())
        yield told

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """For the registry: its name, without asking anybody."""
        family = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        yield family(self.name, self.documentation, labels=self.labels)


received = Counter("iotcore_lane_received_total", "Messages taken from a broker", ["lane"])
stored = Counter("iotcore_lane_readings_stored_total", "Readings made durable", ["lane"])
late = Counter("iotcore_lane_readings_late_total", "Of those, readings that their sender had held back", ["lane"])
duplicates = Counter("iotcore_lane_duplicates_dropped_total", "Readings that came again and were dropped by identity", ["lane"])
refused = Counter("iotcore_lane_refused_total", "Messages refused and quarantined", ["lane", "reason"])
throttled = Counter("iotcore_lane_throttled_total", "Readings above ten times their device's rate", ["lane"])
gap_readings = Counter("iotcore_lane_gap_readings_total", "Readings that never came and were given up", ["lane"])
clock_skew = Histogram(
    "iotcore_lane_clock_skew_seconds",
    "How far devices' clocks are ahead (negative: behind), once a window",
    ["lane"],
    buckets=(-300.0, -60.0, -10.0, -2.0, -0.5, -0.1, 0.0, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0),
)
unkept = Counter(
    "iotcore_fire_unkept_total",
    "Messages neither stored nor receipted for want of a journal: their senders say them again",
)
emergency_fires = Counter("iotcore_fire_emergency_total", "Fires that went out without the journal, by the emergency log")
journal_stalled = Asked("iotcore_fire_journal_stalled", "1 while the fire journal does not answer")
commit_failures = Counter("iotcore_lane_commit_failures_total", "Commits that the disk refused", ["lane"])
take_to_commit = Histogram(
    "iotcore_lane_take_to_commit_seconds", "From taking a batch to its commit on disk", ["lane"], buckets=QUICK_S
)
receipts = Counter("iotcore_lane_receipts_total", "Receipts: sent, merged into a later one, or failed", ["outcome"])
inbox_waiting = Asked("iotcore_lane_inbox_waiting", "Messages taken off a broker that no lane has looked at", ["lane", "broker"])
inbox_oldest = Asked("iotcore_lane_inbox_oldest_seconds", "How long the oldest of them has waited", ["lane", "broker"])

connected = Asked("iotcore_mqtt_connected", "1 while connected to the broker with all subscriptions", ["lane", "broker"])
connections = Asked("iotcore_mqtt_connections_total", "Connections made: more than one means reconnects", ["lane", "broker"])
ingest_reconnects = Counter(
    "iotcore_mqtt_reconnects_total", "Connections to a broker that were lost and made anew", ["client", "reason"]
)
ingest_unaccepted = Counter(
    "iotcore_mqtt_receipts_unaccepted_total", "Receipts that the broker threw away or refused", ["client", "reason"]
)

config_reports = Counter(
    "iotcore_lane_config_reports_total", "Configurations that devices reported: kept, refused, or dropped (no room)", ["outcome"]
)

incidents_opened = Counter("iotcore_fire_incidents_opened_total", "Incidents opened")
alarm_latency = Histogram(
    "iotcore_fire_received_to_durable_seconds", "From the arrival of a reading to its incident on disk", buckets=QUICK_S
)
silent_devices = Asked("iotcore_fire_silent_devices", "Fire devices and gateways that are silent for longer than their limit")
weak_devices = Asked(
    "iotcore_fire_weakly_supervised_devices", "Active fire devices whose silence is noticed after more than 300 s"
)
fire_https = Counter(
    "iotcore_fire_https_total",
    "Posts of the alternate path: stored, or why not (`handshake`: no certificate of ours; `unproven`: registry down)",
    ["outcome"],
)
dispatch_attempts = Counter("iotcore_dispatch_attempts_total", "Sends to receivers", ["outcome"])
dispatch_hedged = Counter(
    "iotcore_dispatch_hedged_total",
    "Notices told to an alternate too, because this receiver had not answered in time",
    ["receiver"],
)
dispatch_given_dropped = Counter(
    "iotcore_dispatch_given_dropped_total", "Notices that no slot was free for when they came; found again in the outbox"
)
dispatch_path_up = Gauge(
    "iotcore_dispatch_path_up", "1 while a receiver acknowledges link tests or alarms, 0 in trouble", ["receiver"]
)
dispatch_troubles = Counter(
    "iotcore_dispatch_troubles_total", "Troubles and the like told to receivers that asked for them", ["receiver", "outcome"]
)
dispatch_link_tests = Counter("iotcore_dispatch_link_tests_total", "Link tests of receivers' paths", ["receiver", "outcome"])

drills = Counter("iotcore_fire_drills_total", "Drills that ended: passed, failed, put_off (a fire) or missed", ["outcome"])
drills_missed = Asked("iotcore_fire_drills_missed", "Premises where no drill was passed in time")
drill_latency = Histogram(
    "iotcore_fire_drill_seconds",
    "Of a drill, from the detector's moment to a receiver's acknowledgement, once for each path",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0),
)

fire_disablements = Asked("iotcore_fire_disablements", "Points, devices, zones and premises that are disabled now")
fire_escalations = Counter("iotcore_fire_escalations_total", "Steps of escalation told: nobody had acknowledged")
fire_walks = Asked("iotcore_fire_walk_tests", "Walk tests that last now")
fire_flapping = Asked("iotcore_fire_flapping_alarms", "Alarms that come and go: each is a trouble of its device")
fire_released = Asked("iotcore_fire_alarms_released_total", "Alarms that fired when what had disabled them was over")

spool_rows = Gauge("iotcore_spool_batches", "Batches in the spool that the store has not taken")
spool_bytes = Gauge("iotcore_spool_bytes", "Bytes in the spool that the store has not taken")
spool_oldest = Gauge("iotcore_spool_oldest_unwritten_seconds", "Age of the oldest reading that the store has not taken; 0: none")
spool_evicted = Counter("iotcore_spool_evicted_total", "Readings dropped because the spool was full, or they too old", ["reason"])
store_writes = Counter("iotcore_store_writes_total", "Writes that the store has taken")
commit_to_store = Histogram(
    "iotcore_store_commit_to_stored_seconds", "From the commit of a batch in the spool to the store's yes", buckets=SLOW_S
)
store_pause = Gauge("iotcore_store_pause_seconds", "How long the store is left alone: its Retry-After, or a pause of ours")
store_written = Counter("iotcore_store_lines_written_total", "Lines that the store has taken")
store_rejected = Counter("iotcore_store_lines_rejected_total", "Lines that the store refused for good")
store_failures = Counter("iotcore_store_failures_total", "Writes that failed and are tried again", ["reason"])
store_expired = Counter("iotcore_store_rows_expired_total", "Rows deleted because they were older than is kept", ["table"])
rolled_until = Gauge("iotcore_rollup_until_seconds", "Up to which time (Unix, UTC) telemetry is rolled up", ["store"])
rollup_failures = Counter("iotcore_rollup_failures_total", "Rounds of rolling up that failed and are tried again", ["reason"])
rolled_again = Counter("iotcore_rollup_again_total", "Hours of a series made anew because values came late", ["store"])

feed_changes = Counter("iotcore_feed_changes_total", "Changes of the fire journal that were followed into series")

modbus_polls = Asked("iotcore_modbus_polls_total", "Polls of Modbus units")
modbus_failing = Asked("iotcore_modbus_units_failing", "Modbus units that are not read now")
outbox_kept = Asked("iotcore_outbox_kept", "Readings of the gateway that wait for their receipt", ["broker"])
outbox_evicted = Asked("iotcore_outbox_evicted_total", "Readings of the gateway given up, ever", ["broker"])

enrolments = Counter("iotcore_enrolment_requests_total", "Requests for certificates, by what came of them", ["outcome"])
enrolment_refused = Asked("iotcore_enrolment_refused_lately", "Requests refused in this minute")
enrolment_burst = Asked("iotcore_enrolment_burst", "1 while an address, or all together, are refused again and again")
enrolment_waiting = Asked("iotcore_enrolment_queue", "Requests that wait to be judged; a thousand at most")

web_requests = Counter("iotcore_web_requests_total", "Requests to the page, by the hundreds of their answer", ["status"])
web_denied = Counter("iotcore_web_denied_total", "Acts that somebody who is signed in was denied")
sign_ins = Counter("iotcore_web_sign_ins_total", "Attempts to sign in: let in, wrong, throttled or refused", ["what", "outcome"])
keeper_still = Asked("iotcore_keeper_standing_still", "Alarms that no process offers, fires that nobody escalates")
keeper_sign_age = Asked("iotcore_keeper_sign_of_life_age_seconds", "Since the outside monitor took our last sign of life")
keeper_overdue = Asked("iotcore_keeper_overdue_notices", "Notices of fires that no receiver has acknowledged in time")

sessions_cut = Counter(
    "iotcore_broker_sessions_cut_total", "Names whose session a broker was told to end for a revoked certificate", ["broker"]
)
sessions_not_cut = Counter(
    "iotcore_broker_sessions_not_cut_total", "Times that a broker could not be told so; it is tried again", ["broker"]
)

audit_changed = Asked("iotcore_audit_changed", "1 while the audit does not hold the head of it that was exported last")
audit_head_age = Asked("iotcore_audit_head_age_seconds", "Since the head of the audit was exported; hourly it should be")

keeper_device_certificates = Asked(
    "iotcore_keeper_device_certificates",
    "Devices' certificates that run out within 14 days (ending) or have (expired), of fire devices and of the others",
    ["what", "lane"],
)

broker_clones = Asked(
    "iotcore_broker_cloned_identities", "Names that connect from two addresses by turns: two hold one key", ["broker"]
)
broker_refused = Asked(
    "iotcore_broker_connections_refused_total", "Connections that a broker refused: certificate, TLS, password", ["broker"]
)
broker_burst = Asked("iotcore_broker_refusal_burst", "1 while a burst of refused connections is not an hour old", ["broker"])
broker_dropped = Asked(
    "iotcore_broker_messages_dropped_total", "Messages that a broker threw away, mostly because a queue was full", ["broker"]
)
broker_clients = Asked("iotcore_broker_clients_connected", "Clients that are connected to a broker", ["broker"])

keeper_left = Asked(
    "iotcore_keeper_left_seconds", "Until the first of its kind runs out: authority, list (revocations), service", ["what"]
)

backup_age = Asked("iotcore_keeper_backup_age_seconds", "How old the last backup is; of none, the platform itself")

process_started = Gauge("iotcore_process_started_seconds", "When the process started, seconds since 1970", ["process"])
loop_lag = Histogram(
    "iotcore_process_loop_lag_seconds", "How late the event loop was: half a second was asked for", buckets=QUICK_S
)
