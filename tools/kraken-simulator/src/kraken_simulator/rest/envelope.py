"""Kraken's envelope, error texts, and shared parameters."""

import json
from collections.abc import Mapping

UNKNOWN_PAIR = "EQuery:Unknown asset pair"
UNKNOWN_ASSET = "EQuery:Unknown asset"
TOO_MANY = "EGeneral:Too many requests"
UNAVAILABLE = "EService:Unavailable"
THROTTLED = "EService:Throttled"
INVALID = "EGeneral:Invalid arguments"
UNKNOWN_METHOD = "EGeneral:Unknown method"


class RequestError(Exception):
    """A request is invalid. The text is Kraken's error text."""


def error_json(text: str) -> str:
    """Return an error response (with HTTP 200)."""
    return f'{{"error":["{text}"]}}'


def result_json(result: str) -> str:
    """Return the response for a result in JSON."""
    return f'{{"error":[],"result":{result}}}'


def object_json(result: Mapping[str, object]) -> str:
    """Return the response for a result."""
    return result_json(json.dumps(result, separators=(",", ":")))


def parse_whole(text: str, allowed: range) -> int:
    """Return an integer in the range `allowed`. RequestError if it is not one."""
    if not text.isdigit() or len(text) > 19 or int(text) not in allowed:
        raise RequestError(INVALID)
    return int(text)


def parse_since(text: str | None) -> int | None:
    """Return a non-negative integer (a fraction is truncated); None if `text` is None. RequestError if invalid."""
    if text is None:
        return None
    whole = text.partition(".")[0]
    if not whole.isdigit() or len(whole) > 19:
        raise RequestError(INVALID)
    return int(whole)
