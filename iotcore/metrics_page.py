"""docs/metrics.md, made from the metrics' own declarations: `python -m iotcore.metrics_page > docs/metrics.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from iotcore import metrics
from iotcore.process.metrics_http import OFFSETS
from iotcore.settings import Metrics

HEAD = """# Metrics

Every process serves `/metrics` in Prometheus' text format, on a port of its own on loopback ([settings.md](settings.md)):

{ports}

A process whose port is taken says so, goes on without, and tries again; `iotcore doctor` shows it. `metrics.port = 0` turns all
of them off. For Prometheus: [a scrape configuration](../deploy/prometheus/prometheus.yml) and
[alert rules](../deploy/prometheus/iotcore-rules.yml).

No label holds a device's name. Besides these there are the client library's own: `process_*` (memory, CPU time, open files),
`python_gc_*` and `python_info`.

This page is made from the declarations by `python -m iotcore.metrics_page`; a test keeps it current.

| Metric | Kind | Labels | What it is |
|---|---|---|---|
"""


class Row(NamedTuple):
    """One metric as it is told to people."""

    name: str
    kind: str
    labels: tuple[str, ...]
    words: str


def rows() -> Iterator[Row]:
    """Every metric of `iotcore.metrics`, in the order of the file."""
    for one in vars(metrics).values():
        if isinstance(one, metrics.Asked):
            yield Row(one.name, one.kind, one.labels, one.documentation)
        elif isinstance(one, MetricWrapperBase):
            (told,) = one.describe()
            suffix = "_total" if told.type == "counter" else ""
            yield Row(told.name + suffix, told.type, tuple(one._labelnames), told.documentation)  # noqa: SLF001 - it has no other name


def page() -> str:
    """The whole page."""
    base = Metrics().port
    ports = "\n".join(f"- {base + offset} `{name}`" for name, offset in OFFSETS.items())
    table = "".join(
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.words} |\n" for one in rows()
    )
    return HEAD.format(ports=ports) + table


if __name__ == "__main__":
    sys.stdout.write(page())
