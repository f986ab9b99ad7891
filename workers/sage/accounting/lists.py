"""Sage Accounting's lists: the envelope around a page, and where the next page is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

MOST_PER_PAGE = 200


class NotAList(Exception):
    """An answer that should be a page of a list is none, or points to another host."""


def items_of(page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of a page, those left out that are no objects. Raises NotAList."""
    entries = page.get("$items")
    if not isinstance(entries, list):
        raise NotAList("the answer has no $items")
    return [one for one in entries if isinstance(one, dict)]


def next_page(page: Mapping[str, Any], number: int, base_url: str) -> int | None:
    """The number of the page after page `number`, None at the end.

    `$next` is relative to the base URL, or absolute, and null on the last page; a page past the end is the last page
    once more. Only its page number is used, with the query of our own that the first page was asked with.
    Raises NotAList where it is on another host, or does not lead on.
    """
    link = page.get("$next")
    if link is None or link == "":
        return None
    if not isinstance(link, str):
        raise NotAList("$next is no text")
    try:
        parts, base = urlsplit(link), urlsplit(base_url)
        ours = not parts.netloc or (parts.scheme or base.scheme, parts.netloc.lower()) == (
            base.scheme,
            base.netloc.lower(),
        )
        following = int(parse_qs(parts.query)["page"][0])
    except (ValueError, KeyError) as error:
        raise NotAList("$next names no page") from error
    if not ours:
        raise NotAList("$next is on another host")
    if following <= number:
        raise NotAList(f"$next of page {number} is page {following}")
    return following
