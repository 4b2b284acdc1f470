"""What a service says about itself."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `detail` is for people."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: the process works, else restart it. `ready`: it does its work now."""

    live: bool
    ready: bool
    checks: tuple[Check, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The form in which the probes serve it."""
        return {
            "live": self.live,
            "ready": self.ready,
            "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks],
        }
