"""Prefetching of the next item in a thread, so that reading, computing and writing overlap."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")

_END = object()


def prefetched(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """The items; a thread computes each one while the caller works on the previous one. Raises what `items` raises."""
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as maker:
        coming = maker.submit(next, source, _END)
        while (item := coming.result()) is not _END:
            coming = maker.submit(next, source, _END)
            yield item  # type: ignore[misc]
