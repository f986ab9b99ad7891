"""What an answer of Sage means for a call."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from workers.sage.connector import AuthoriseAgain, NotFound, OutcomeUnknown, Rejected, SageError, Transient
from workers.sage.http import Call, Refused, failure, retry_after
from workers.sage.wire import Reply

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def reply(status: int, code: str = "", *, body: Any = None, **headers: str) -> Reply:
    entry = {"$severity": "error", "$dataCode": code, "$message": "Something is wrong.", "$source": "name"}
    content = json.dumps([entry] if body is None else body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


READ, CREATE, CHANGE = Call.READ, Call.CREATE, Call.CHANGE


@pytest.mark.parametrize(
    ("status", "code", "read", "create", "change"),
    [
        (400, "InvalidRequest", Transient, Refused, Refused),
        (401, "AuthorizationFailure", AuthoriseAgain, AuthoriseAgain, AuthoriseAgain),
        (403, "MultiUserAccessDenied", AuthoriseAgain, AuthoriseAgain, AuthoriseAgain),
        (403, "AuthorizationFailure", AuthoriseAgain, Refused, Refused),
        (404, "RecordNotFound", NotFound, Refused, NotFound),
        (408, "", Transient, Transient, Transient),
        (409, "", Transient, Transient, Transient),
        (415, "UnsupportedMediaType", Transient, Refused, Refused),
        (422, "RecordInvalid", Transient, Refused, Refused),
        (429, "", Transient, Transient, Transient),
        (500, "UnexpectedError", Transient, OutcomeUnknown, OutcomeUnknown),
        (502, "", Transient, OutcomeUnknown, OutcomeUnknown),
        (503, "", Transient, OutcomeUnknown, OutcomeUnknown),
        (504, "", Transient, OutcomeUnknown, OutcomeUnknown),
        # A redirect is not followed, so what it was for may have been done.
        (302, "", Transient, OutcomeUnknown, OutcomeUnknown),
        (308, "", Transient, OutcomeUnknown, OutcomeUnknown),
        (599, "", Transient, OutcomeUnknown, OutcomeUnknown),
    ],
)
def test_the_table(
    status: int, code: str, read: type[SageError], create: type[SageError], change: type[SageError]
) -> None:
    answer = reply(status, code)

    assert [type(failure(call, answer)) for call in (READ, CREATE, CHANGE)] == [read, create, change]


def test_no_answer_after_a_write_is_ever_taken_for_a_failed_one() -> None:
    for status in [*range(100, 200), *range(300, 400), *range(500, 600)]:
        for call in (CREATE, CHANGE):
            assert isinstance(failure(call, reply(status)), OutcomeUnknown)


def test_what_sage_said_is_kept_for_admins() -> None:
    error = failure(CHANGE, reply(422, "RecordInvalid", x_request_id="abc-1"))

    assert isinstance(error, Rejected)
    assert error.detail == {"code": "refused"}
    assert error.raw == {
        "status": "422",
        "code": "RecordInvalid",
        "message": "Something is wrong.",
        "source": "name",
        "request_id": "abc-1",
    }


def test_the_header_of_the_request_id_may_have_an_underscore() -> None:
    assert failure(READ, Reply(500, {"x_request_id": "abc-2"}, b"")).raw == {"status": "500", "request_id": "abc-2"}


def test_one_object_is_read_as_a_list_of_one() -> None:
    error = failure(
        CHANGE, reply(422, body={"$dataCode": "RecordInvalid", "$message": "No.", "$source": "contact.name"})
    )

    assert isinstance(error, Refused)
    assert [(one.code, one.message, one.source) for one in error.complaints] == [
        ("RecordInvalid", "No.", "contact.name")
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Bad gateway</html>", b"[" * 100_000, b'"text"', b"[1, null, []]", b'{"$message": 7}', b"\xff\xfe"],
)
def test_any_body_can_come_with_an_error(body: bytes) -> None:
    error = failure(CREATE, Reply(500, {}, body))

    assert isinstance(error, OutcomeUnknown)
    assert error.raw == {"status": "500"}


def test_what_sage_said_can_be_stored_and_has_an_end() -> None:
    entry = {"$dataCode": "RecordInvalid", "$message": "a\x00b\n" + "x" * 10_000, "$source": "\ud800name"}
    raw = failure(CREATE, reply(422, body=[entry] * 50)).raw

    assert raw["message"].startswith("ab xxx")
    assert len(raw["message"]) <= 500
    assert not any("\x00" in text or "\ud800" in text for text in raw.values())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5.0),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("99999999", 86_400.0),
        ("Sun, 22 Nov 2026 10:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2099 09:00:00 GMT", 86_400.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_in_all_its_forms(header: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": header}, NOW) == seconds


def test_retry_after_may_be_absent() -> None:
    assert retry_after({}, NOW) is None


def test_a_date_is_measured_by_sages_own_clock() -> None:
    headers = {"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT", "date": "Sun, 22 Nov 2026 12:00:00 GMT"}

    assert retry_after(headers, NOW) == 30.0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_wait_that_sage_asks_for_comes_along(status: int) -> None:
    error = failure(CREATE, reply(status, retry_after="7"))

    assert isinstance(error, Transient | OutcomeUnknown)
    assert error.after == 7.0
