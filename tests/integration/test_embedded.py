"""PostgreSQL and Redis from the wheels: started, left behind, found again."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from sqlalchemy import text

from tests.stack import wait_until
from webapp.config import Settings
from webapp.migrations import create_database
from webapp.run import embedded, programs
from webapp.services import Services


@contextmanager
def running(program: programs.Program) -> Iterator[subprocess.Popen[bytes]]:
    process = programs.start(program)
    try:
        wait_until(program.ready, 30)
        yield process
    finally:
        process.send_signal(program.stop_signal)
        process.wait(timeout=60)


def postgres(folder: Path) -> programs.Program:
    return embedded.postgres(folder / "postgres", folder / "run", folder / "postgres.log")


def connect(folder: Path) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(f"host={folder / 'run'} user=postgres dbname=postgres", autocommit=True)


def setting(connection: psycopg.Connection[tuple[object, ...]], name: str) -> object:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return row[0]


def test_keeps_what_was_committed_through_a_crash(own_folder: Path) -> None:
    with running(postgres(own_folder)) as process, connect(own_folder) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert setting(connection, name) == "on"
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
        process.kill()
        process.wait()
    with running(postgres(own_folder)), connect(own_folder) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)


def test_a_server_that_was_left_behind_is_stopped_first(own_folder: Path) -> None:
    with running(postgres(own_folder)) as left_behind:
        with running(postgres(own_folder)) as process, connect(own_folder):
            assert process.pid != left_behind.pid
            assert left_behind.poll() == 0
        left_behind.send_signal = lambda number: None  # type: ignore[method-assign]


def test_an_id_that_now_belongs_to_another_process_is_no_hindrance(own_folder: Path) -> None:
    with running(postgres(own_folder)) as process:
        process.kill()
        process.wait()
    pid_file = own_folder / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with running(postgres(own_folder)), connect(own_folder) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_cluster_that_was_broken_off_half_way_is_made_anew(own_folder: Path) -> None:
    half_made = own_folder / "postgres.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with running(postgres(own_folder)), connect(own_folder) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not half_made.exists()


def test_nobody_else_can_reach_the_servers(own_folder: Path) -> None:
    redis = embedded.redis(own_folder / "redis", own_folder / "run", own_folder / "redis.log")
    with running(postgres(own_folder)), running(redis), connect(own_folder) as connection:
        assert stat.S_IMODE((own_folder / "run").stat().st_mode) == 0o700
        assert setting(connection, "listen_addresses") == ""
        with Redis(unix_socket_path=str(own_folder / "run" / "redis.sock")) as client:
            assert client.config_get("port")["port"] == "0"


def test_redis_keeps_its_jobs_through_a_crash(own_folder: Path) -> None:
    program = embedded.redis(own_folder / "redis", own_folder / "run", own_folder / "redis.log")
    path = str(own_folder / "run" / "redis.sock")
    with running(program) as process, Redis(unix_socket_path=path) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        client.rpush("jobs", "one")
        # The log of Redis reaches the disk within a second; a crash of the process alone loses nothing of it.
        process.kill()
        process.wait()
    with running(program), Redis(unix_socket_path=path) as client:
        assert client.lrange("jobs", 0, -1) == [b"one"]


@pytest.mark.parametrize(("name", "holds_sockets"), [("a+b%20c&d#e'f", True), ("a b=c", False), ("long" * 30, False)])
def test_any_path_will_do(own_folder: Path, name: str, holds_sockets: bool) -> None:
    settings = Settings(var=own_folder / name)
    settings.var.mkdir()
    assert settings.run_dir.is_relative_to(own_folder) is holds_sockets
    database = embedded.postgres(settings.var / "postgres", settings.run_dir, settings.var / "postgres.log")
    redis = embedded.redis(settings.var / "redis", settings.run_dir, settings.var / "redis.log")
    services = Services.open(settings)
    with running(database), running(redis):
        create_database(settings.database_url)
        with services.database.engine.connect() as connection:
            assert connection.scalar(text("SELECT current_database()")) == "synclight"
        # What RQ's workers ask for first.
        assert str(settings.run_dir) in services.redis.client_info()["addr"]
        services.database.engine.dispose()
    shutil.rmtree(settings.run_dir)


@pytest.mark.parametrize(("version", "taken"), [("7.2.4", True), ("6.2.0", True), ("6.0.16", False)])
def test_a_server_on_the_path_is_taken_where_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, taken: bool
) -> None:
    installed = tmp_path / "redis-server"
    installed.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 malloc=libc bits=64'\n")
    installed.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert (embedded.redis_server() == str(installed)) is taken
