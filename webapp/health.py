"""What machines ask: does the process live, does the product work, and how much of what is there."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator
from ipaddress import ip_address

import psutil
from flask import Blueprint, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from redis import Redis, RedisError
from rq import Queue
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from webapp.connection.models import STATES
from webapp.overview import read_overview
from webapp.queue import PULL_QUEUE, PUSH_QUEUE, WORKER_SILENCE
from webapp.services import services

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def alive() -> ResponseReturnValue:
    """This process answers; says nothing about what it needs."""
    return jsonify(alive=True)


@blueprint.get("/readyz")
def ready() -> ResponseReturnValue:
    """200 where the database, Redis and a worker are there, else 503 with what is missing."""
    reasons = {}
    try:
        with services().database.engine.connect() as connection:
            connection.execute(text("SELECT 1 FROM status_count LIMIT 1"))
    except SQLAlchemyError:
        reasons["database"] = "It cannot be reached, or is not migrated."
    try:
        if not services().jobs.living_workers():
            reasons["worker"] = f"None has given a sign of life for {WORKER_SILENCE.seconds} s."
    except RedisError:
        reasons["redis"] = "It cannot be reached."
    return jsonify(ready=not reasons, reasons=reasons), 503 if reasons else 200


@blueprint.get("/metrics")
def metrics() -> ResponseReturnValue:
    """The figures for Prometheus: to this machine, and to whoever has the token.

    Every web process gives the same answer: the figures of the product come from the database and from Redis, those of
    the web processes are sums over all of them.
    """
    if not _may_read_metrics():
        abort(403)
    registry = CollectorRegistry()
    registry.register(_Figures())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _may_read_metrics() -> bool:
    token = services().settings.metrics_token
    if token is not None:
        given = request.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {token.get_secret_value()}".encode()):
            return True
    # Through a proxy on this machine everybody seems to be local.
    through_proxy = "X-Forwarded-For" in request.headers or "Forwarded" in request.headers
    return not through_proxy and request.remote_addr is not None and ip_address(request.remote_addr).is_loopback


class _Figures:
    """Reads all figures anew at each scrape. What cannot be read is left out, and its `synclight_up` is 0."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("synclight_up", "1 where this could be reached.", labels=["what"])
        try:
            with Session(services().database.engine) as session:
                yield from self._from_database(session)
            up.add_metric(["database"], 1)
        except SQLAlchemyError:
            up.add_metric(["database"], 0)
        try:
            yield from self._from_redis(services().redis)
            up.add_metric(["redis"], 1)
        except RedisError:
            up.add_metric(["redis"], 0)
        yield up
        yield from _web_processes()

    def _from_database(self, session: Session) -> Iterator[Metric]:
        overview = read_overview(session)
        records = GaugeMetricFamily("synclight_records", "Records by module and status.", labels=["module", "status"])
        for module, counts in overview["modules"].items():
            for status, number in counts.items():
                records.add_metric([module, status], number)
        state = GaugeMetricFamily(
            "synclight_connection_state", "1 for the state that a connection has.", labels=["connection", "state"]
        )
        synchronised = GaugeMetricFamily(
            "synclight_connection_last_synchronised_timestamp_seconds",
            "When a connection was last synchronised, in seconds since 1970.",
            labels=["connection"],
        )
        for connection in overview["connections"]:
            for name in STATES:
                state.add_metric([str(connection["id"]), name], float(connection["state"] == name))
            if (at := connection["last_synchronised_at"]) is not None:
                synchronised.add_metric([str(connection["id"])], at.timestamp())
        yield from (records, state, synchronised)

    def _from_redis(self, redis: Redis) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("synclight_jobs_waiting", "Jobs that no worker has taken yet.", labels=["queue"])
        for name in (PUSH_QUEUE, PULL_QUEUE):
            waiting.add_metric([name], Queue(name, connection=redis).count)
        yield waiting
        alive = services().jobs.living_workers()
        yield GaugeMetricFamily("synclight_workers", "Workers that gave a sign of life lately.", value=alive)


def _web_processes() -> Iterator[Metric]:
    """Memory, time and files of all web processes together: gunicorn's workers, our parent's children."""
    processes = psutil.Process(os.getppid()).children()
    memory = files = 0
    seconds = 0.0
    for process in processes:
        try:
            used = process.cpu_times()
            seconds += used.user + used.system
            memory += process.memory_info().rss
            files += process.num_fds()
        except psutil.NoSuchProcess:
            continue  # It ended meanwhile.
    yield GaugeMetricFamily("synclight_web_processes", "Web processes.", value=len(processes))
    yield GaugeMetricFamily("synclight_web_resident_memory_bytes", "Resident memory of all of them.", value=memory)
    yield GaugeMetricFamily("synclight_web_open_fds", "Open files and sockets of all of them.", value=files)
    yield CounterMetricFamily("synclight_web_cpu_seconds", "Processor time of all of them.", value=seconds)
