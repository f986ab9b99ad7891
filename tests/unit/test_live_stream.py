"""Frames on a real connection whose other side reads slowly, sends too much, or is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from webapp.live.stream import Stream, encode

# More than the system takes for a reader that does not read.
MUCH = 20_000_000


@pytest.fixture
def ends() -> Iterator[tuple[Stream, socket.socket]]:
    """A stream, and the other end of its connection."""
    ours, theirs = socket.socketpair()
    yield Stream(ours), theirs
    ours.close()
    theirs.close()


def read(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += end.recv(1 << 20)
    return bytes(data)


def test_what_is_written_at_once_arrives_and_leaves_it_free(ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    stream.write(b"one")
    stream.write(b"two")
    assert stream.is_free
    assert read(other, 6) == b"onetwo"


def test_a_slow_reader_gets_everything_whole_and_in_order(ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    stream.write(b"a" * MUCH)
    assert not stream.is_free
    stream.write(b"b" * 10)
    waiting = gevent.spawn(stream.send, b"c" * 10)
    gevent.sleep(0)
    assert not waiting.ready()
    assert read(other, MUCH + 20) == b"a" * MUCH + b"b" * 10 + b"c" * 10
    waiting.get(timeout=5)
    assert stream.is_free


def test_a_reader_that_is_gone_costs_nothing(ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    other.close()
    stream.write(b"one")
    stream.write(b"two")
    assert stream.is_free


def test_closing_ends_what_waits(ends: tuple[Stream, socket.socket]) -> None:
    stream, _ = ends
    waiting = gevent.spawn(stream.send, b"a" * MUCH)
    gevent.sleep(0)
    stream.close()
    waiting.get(timeout=5)
    assert stream.is_free


def test_who_sends_too_much_is_cut_off(ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    gevent.spawn(other.sendall, b"x" * 1_000_000)
    taken = 0
    while data := stream.recv(4096):
        taken += len(data)
    assert taken < 200_000


def test_a_frame_is_what_a_browser_reads() -> None:
    browser = Connection(ConnectionType.CLIENT)
    browser.receive_data(encode("changes", {"v": 1, "things": [{"key": "company:1", "name": "Łódź" * 50_000}]}))
    texts = [event.data for event in browser.events() if isinstance(event, TextMessage)]
    message = "".join(texts)
    assert message.startswith('42["changes",')
    assert json.loads(message[2:])[1]["things"][0]["name"] == "Łódź" * 50_000
