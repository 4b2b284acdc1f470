"""What must be in a store, whatever it is made of: tables and indexes, or buckets, tasks and tokens."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Properties = Mapping[str, str | int | float | bool | None]
"""What matters about a resource; two resources are the same if these are equal."""


class ResourceState(StrEnum):
    """How a resource compares with what it should be."""

    OK = "ok"
    MISSING = "missing"
    DIFFERENT = "different"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Resource:
    """A thing in the store, known by its kind (`table`, `bucket`, `task`, ...) and name."""

    kind: str
    name: str
    properties: Properties


@dataclass(frozen=True, slots=True)
class Comparison:
    """One resource: what should be there (None: nothing of ours) and what is (None: nothing)."""

    kind: str
    name: str
    expected: Properties | None
    found: Properties | None

    @property
    def state(self) -> ResourceState:
        """`foreign` resources are not ours and are left alone."""
        if self.expected is None:
            return ResourceState.FOREIGN
        if self.found is None:
            return ResourceState.MISSING
        return ResourceState.OK if dict(self.expected) == dict(self.found) else ResourceState.DIFFERENT

    def as_json(self) -> dict[str, Any]:
        """For the HTTP answer."""
        return {
            "kind": self.kind,
            "name": self.name,
            "state": self.state.value,
            "expected": None if self.expected is None else dict(self.expected),
            "found": None if self.found is None else dict(self.found),
        }


@dataclass(frozen=True, slots=True)
class BootstrapState:
    """What is in the store beside what should be."""

    store: str
    resources: tuple[Comparison, ...]

    @property
    def difference(self) -> tuple[Comparison, ...]:
        """What a bootstrap would change."""
        return tuple(r for r in self.resources if r.state in (ResourceState.MISSING, ResourceState.DIFFERENT))

    @property
    def complete(self) -> bool:
        """Whether everything that should be there is."""
        return not self.difference


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """What a bootstrap changed, and how the store is now."""

    changes: tuple[str, ...]
    state: BootstrapState


def compare(store: str, expected: Iterable[Resource], found: Iterable[Resource]) -> BootstrapState:
    """Lay what should be in `store` beside what is; what is expected comes first, in its order."""
    is_there = {(resource.kind, resource.name): resource.properties for resource in found}
    rows = [
        Comparison(want.kind, want.name, want.properties, is_there.pop((want.kind, want.name), None))
        for want in expected
    ]
    rows += [Comparison(kind, name, None, properties) for (kind, name), properties in sorted(is_there.items())]
    return BootstrapState(store, tuple(rows))
