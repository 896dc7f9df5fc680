"""Prometheus metrics: requests of this process, queues, and what workers counted about steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from echo_core.application.ports import QueueStatistics
from echo_core.application.step_metrics import StepCount

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HttpMetrics:
    """Counters of one API process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "echo_http_requests", "Answered requests.", ("route", "method", "status"), registry=self.registry
        )
        self._latency = Histogram(
            "echo_http_request_duration_seconds",
            "Time to the end of the answer.",
            ("route", "method"),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.sockets = Gauge("echo_websocket_connections", "Open WebSockets.", registry=self.registry)
        # labels() looks up under a lock; routes and statuses are few, so their children are kept.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}

    def request_completed(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one request. Methods that nobody has heard of count as one."""
        method = method if method in _METHODS else "OTHER"
        counter = self._counters.get((route, method, status))
        if counter is None:
            counter = self._counters[route, method, status] = self._requests.labels(route, method, str(status))
        histogram = self._histograms.get((route, method))
        if histogram is None:
            histogram = self._histograms[route, method] = self._latency.labels(route, method)
        counter.inc()
        histogram.observe(duration_s)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Snapshot(Collector):
    """Numbers that were read for one scrape."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def render(metrics: HttpMetrics, queues: Sequence[QueueStatistics], steps: Sequence[StepCount]) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry()
    registry.register(_Snapshot([*_queue_families(queues), *_step_families(steps)]))
    return generate_latest(metrics.registry) + generate_latest(registry)


def _queue_families(queues: Sequence[QueueStatistics]) -> list[Metric]:
    depth = GaugeMetricFamily("echo_queue_depth", "Steps that wait for a worker.", labels=("resource",))
    age = GaugeMetricFamily("echo_queue_oldest_age_seconds", "How long the oldest has.", labels=("resource",))
    running = GaugeMetricFamily("echo_steps_running", "Steps being worked on.", labels=("resource",))
    for queue in queues:
        depth.add_metric([queue.resource], queue.queued)
        age.add_metric([queue.resource], queue.oldest_age_s)
        running.add_metric([queue.resource], queue.running)
    return [depth, age, running]


def _step_families(steps: Sequence[StepCount]) -> list[Metric]:
    labels = ("step", "resource", "outcome", "code")
    runs = CounterMetricFamily("echo_step_runs", "Runs of steps by outcome and error code.", labels=labels)
    seconds = CounterMetricFamily("echo_step_duration_seconds", "Their wall time in all.", labels=labels)
    for count in steps:
        values = [count.step, count.resource, count.outcome, count.code]
        runs.add_metric(values, count.runs)
        seconds.add_metric(values, count.seconds)
    return [runs, seconds]
