"""The resources in InfluxDB: the organisation, buckets, tasks and tokens; compare, create and correct them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store.bootstrap import BootstrapResult, BootstrapState, Comparison, StoreResource, compare
from ingress_store.errors import StoreUnavailableError
from ingress_store.influx import downsampling, names
from ingress_store.influx.server import NotThereError, RefusedError, Server
from ingress_store.port import TaskState
from ingress_store.retention import DAY, YEAR, Retention

_PAGE = 100
_MAX_TASKS = 500
_TAKEN = (409, 422)
# A shard's points are stored together: about as many as a query reads, and enough to be worth a shard.
_WINDOWS_PER_SHARD = 1_092
# InfluxDB keeps nine files of each shard open, whether it is read or not.
_SHARDS = 400
_FOREVER = 20 * YEAR
_SYSTEM = "system"
SUPERSEDED = ", superseded"
"""Suffix of the name of a token that a newer one replaces; only the operator deletes it."""
_ID = re.compile(r"[0-9a-fA-F]{16}")
_OUR_BUCKETS = (*map(names.candles, TIMEFRAMES), names.TICKS)
_PERMISSIONS: Mapping[str, str] = {
    names.WRITER_TOKEN: ", ".join(sorted(f"{do} buckets/{name}" for do in ("read", "write") for name in _OUR_BUCKETS)),
    names.READER_TOKEN: "read buckets",
}


def _shard_seconds(timeframe: Timeframe, retention: int | None) -> int:
    """The range of one shard: a day, or whole weeks; so that a bucket has at most `_SHARDS`."""
    kept = _FOREVER if retention is None else retention
    seconds = max(_WINDOWS_PER_SHARD * timeframe.seconds, -(-kept // _SHARDS))
    return -(-seconds // (7 * DAY)) * 7 * DAY if seconds > DAY else DAY


@dataclass(frozen=True, slots=True)
class _Found:
    """A resource of the organisation, ours or not; `others`: ids of duplicates of its name."""

    resource: StoreResource
    id: str
    others: tuple[str, ...] = ()


class Setup:
    """Compares an organisation with what the services need, and creates what is missing. It does not touch foreign
    resources.

    The server forbids two buckets of one name, but not two tasks or tokens: if two bootstraps make duplicates, both
    keep the oldest (ids grow with time).
    """

    def __init__(self, server: Server, location: str, org: str, retention: Retention) -> None:
        self._server = server
        self._location = location
        self._org = org
        self._retention = retention

    async def inspect(self) -> BootstrapState:
        """The existing and the expected resources."""
        org_id = await self._org_id()
        return self._compare(org_id, await self._found(org_id))

    async def make(self) -> BootstrapResult:
        """Create what is missing and change what differs."""
        changes: list[str] = []
        org_id = await self._org_id()
        if org_id is None:
            org_id = await self._make_organisation(changes)
        found = await self._found(org_id)
        for row in self._compare(org_id, found).difference:
            change = await self._change(row, org_id, found.get((row.kind, row.name)))
            if change:
                changes.append(change)
        # Also after a bootstrap that was killed.
        found = await self._found(org_id)
        changes += await self._without_doubles(found)
        return BootstrapResult(tuple(changes), self._compare(org_id, found))

    async def task_states(self) -> list[TaskState]:
        """The state of our tasks, missing ones included."""
        org_id = await self._org_id()
        by_name: dict[str, dict[str, Any]] = {}
        for found in await self._tasks(org_id) if org_id else []:
            by_name.setdefault(found["name"], found)
        states = []
        for timeframe, _ in downsampling.LOWER_TIMEFRAMES:
            task = by_name.get(names.task(timeframe))
            delay = downsampling.offset(timeframe)
            every = downsampling.interval(timeframe)
            if task is None:
                states.append(TaskState(names.task(timeframe), every, delay, exists=False))
                continue
            states.append(
                TaskState(
                    name=task["name"],
                    every=every,
                    offset=delay,
                    exists=True,
                    active=task.get("status") == "active",
                    since=_instant(task.get("createdAt")),
                    last_run=_instant(task.get("latestCompleted")),
                    error=_error(task),
                )
            )
        return states

    async def run_task(self, name: str) -> None:
        """Run the task of this name now, if there is one."""
        org_id = await self._org_id()
        for task in await self._tasks(org_id) if org_id else []:
            if task["name"] == name:
                await self._server.post(f"tasks/{task['id']}/runs", {})
                return

    def _expected(self) -> list[StoreResource]:
        expected = [StoreResource("organization", self._org, {})]
        for timeframe in TIMEFRAMES:
            retention = self._retention.candles[timeframe]
            properties = _bucket_properties(retention, _shard_seconds(timeframe, retention))
            expected.append(StoreResource("bucket", names.candles(timeframe), properties))
        ticks = self._retention.ticks
        expected.append(
            StoreResource("bucket", names.TICKS, _bucket_properties(ticks, _shard_seconds(Timeframe.M1, ticks)))
        )
        for timeframe, _ in downsampling.LOWER_TIMEFRAMES:
            text = downsampling.task_flux(timeframe)
            expected.append(StoreResource("task", names.task(timeframe), {"status": "active", "flux": text}))
        for name, permissions in _PERMISSIONS.items():
            expected.append(StoreResource("token", name, {"status": "active", "permissions": permissions}))
        return expected

    def _compare(self, org_id: str | None, found: "_Everything") -> BootstrapState:
        there = [StoreResource("organization", self._org, {})] if org_id else []
        return compare(self._location, self._expected(), there + [entry.resource for entry in found.values()])

    async def _org_id(self) -> str | None:
        """The ID of the organisation with this name, else with this ID; None without one."""
        try:
            named = await self._server.get("orgs", org=self._org)
        except NotThereError:
            named = {}
        ids = [str(org["id"]) for org in named.get("orgs", ()) if org["name"] == self._org]
        if ids or not _ID.fullmatch(self._org):
            return ids[0] if ids else None
        try:
            return str((await self._server.get(f"orgs/{self._org}"))["id"])
        except NotThereError:
            return None

    async def _make_organisation(self, changes: list[str]) -> str:
        if _ID.fullmatch(self._org):
            # An organisation of this name would hide that the ID is wrong.
            raise StoreUnavailableError(
                f"{self._location}: INFLUX_ORG is the ID {self._org}, and there is no organisation of that ID"
            )
        try:
            made = await self._server.post("orgs", {"name": self._org})
        except RefusedError as error:
            org_id = await self._org_id() if error.status in _TAKEN else None
            if org_id is None:
                raise
            return org_id
        changes.append(f"created organization {self._org}")
        return str(made["id"])

    async def _found(self, org_id: str | None) -> "_Everything":
        found: _Everything = {}
        if org_id is None:
            return found
        buckets = await self._buckets(org_id)
        for bucket in buckets:
            _add(found, StoreResource("bucket", bucket["name"], _properties_of_bucket(bucket)), bucket["id"])
        for task in await self._tasks(org_id):
            properties = {"status": task.get("status"), "flux": task.get("flux")}
            _add(found, StoreResource("task", task["name"], properties), task["id"])
        bucket_names = {bucket["id"]: bucket["name"] for bucket in buckets}
        for token in await self._tokens(org_id):
            properties = {"status": token.get("status"), "permissions": _permissions(token, bucket_names)}
            # Keep only ids and descriptions: the server's response contains the secret.
            _add(found, StoreResource("token", token.get("description") or token["id"], properties), token["id"])
        return found

    async def _buckets(self, org_id: str) -> list[dict[str, Any]]:
        buckets: list[dict[str, Any]] = []
        while True:
            page = (await self._server.get("buckets", orgID=org_id, limit=_PAGE, offset=len(buckets)))["buckets"]
            buckets += page
            if len(page) < _PAGE:
                return [bucket for bucket in buckets if bucket.get("type") != _SYSTEM]

    async def _tasks(self, org_id: str) -> list[dict[str, Any]]:
        """Oldest first."""
        tasks: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = (await self._server.get("tasks", orgID=org_id, limit=_MAX_TASKS, **after))["tasks"]
            tasks += page
            if len(page) < _MAX_TASKS:
                return sorted(tasks, key=lambda task: str(task["id"]))
            after = {"after": page[-1]["id"]}

    async def _tokens(self, org_id: str) -> list[dict[str, Any]]:
        """Oldest first."""
        found = await self._server.get("authorizations", orgID=org_id)
        tokens: list[dict[str, Any]] = found.get("authorizations") or []
        return sorted(tokens, key=lambda token: str(token["id"]))

    async def _change(self, row: Comparison, org_id: str, found: _Found | None) -> str | None:
        expected = row.expected or {}
        if row.kind == "bucket":
            return await self._change_bucket(row.name, expected, org_id, found)
        if row.kind == "task":
            body = {"flux": expected["flux"], "status": expected["status"]}
            return await self._change_or_make("tasks", row, {"orgID": org_id, **body}, body, found)
        permissions = await self._permissions_as_json(str(expected["permissions"]), org_id)
        token = {"orgID": org_id, "description": row.name, "permissions": permissions}
        if found is not None and found.resource.properties["permissions"] != expected["permissions"]:
            return await self._replace_token(row.name, token, found, str(expected["permissions"]))
        return await self._change_or_make("authorizations", row, token, {"status": "active"}, found)

    async def _replace_token(self, name: str, token: Mapping[str, Any], found: _Found, expected: str) -> str:
        """Make a new token, because a token's permissions cannot be changed.

        One that only lacks rights, because a bucket was deleted or renamed, stays valid for the other buckets: a
        service that still has it goes on with them until it gets the new one.
        """
        present, wanted = set(str(found.resource.properties["permissions"]).split(", ")), set(expected.split(", "))
        more = {right for right in present - wanted if not _is_of_deleted_bucket(right)}
        renamed = len(more) <= len(wanted - present) and all(" buckets/" in right for right in more)
        if not renamed:
            await self._delete("authorizations", found.id)
            await self._server.post("authorizations", token)
            return f"replaced token {name}; its secret has changed"
        await self._server.patch(f"authorizations/{found.id}", {"description": f"{name}{SUPERSEDED}"})
        await self._server.post("authorizations", token)
        return f"made a new token {name}; the one before, now {name}{SUPERSEDED}, serves the other buckets"

    async def _permissions_as_json(self, text: str, org_id: str) -> list[dict[str, Any]]:
        """The permissions that `_permissions` writes as `text`."""
        ids = {bucket["name"]: bucket["id"] for bucket in await self._buckets(org_id)}
        permissions = []
        for permission in text.split(", "):
            action, _, resource = permission.partition(" ")
            kind, _, name = resource.partition("/")
            one = {"id": ids[name]} if name else {}
            permissions.append({"action": action, "resource": {"type": kind, "orgID": org_id, **one}})
        return permissions

    async def _change_bucket(
        self, name: str, expected: Mapping[str, Any], org_id: str, found: _Found | None
    ) -> str | None:
        rule = {
            "type": "expire",
            "everySeconds": expected["retention_seconds"],
            "shardGroupDurationSeconds": expected["shard_seconds"],
        }
        if found is not None:
            await self._server.patch(f"buckets/{found.id}", {"name": name, "retentionRules": [rule]})
            return f"changed bucket {name}"
        try:
            await self._server.post("buckets", {"orgID": org_id, "name": name, "retentionRules": [rule]})
        except RefusedError as error:
            # A concurrent bootstrap was faster.
            if error.status in _TAKEN and any(bucket["name"] == name for bucket in await self._buckets(org_id)):
                return None
            raise
        return f"created bucket {name}"

    async def _change_or_make(
        self, path: str, row: Comparison, body: Mapping[str, Any], change: Mapping[str, Any], found: _Found | None
    ) -> str:
        if found is None:
            await self._server.post(path, body)
            return f"created {row.kind} {row.name}"
        await self._server.patch(f"{path}/{found.id}", change)
        return f"changed {row.kind} {row.name}"

    async def _without_doubles(self, found: "_Everything") -> list[str]:
        changes = []
        ours = {(resource.kind, resource.name) for resource in self._expected()}
        for (kind, name), entry in found.items():
            for double in entry.others if (kind, name) in ours else ():
                await self._delete("tasks" if kind == "task" else "authorizations", double)
                changes.append(f"removed a second {kind} {name}")
        return changes

    async def _delete(self, path: str, resource_id: str) -> None:
        try:
            await self._server.delete(f"{path}/{resource_id}")
        except NotThereError:
            # A concurrent bootstrap was faster.
            return


_Everything = dict[tuple[str, str], _Found]


def _add(found: _Everything, resource: StoreResource, resource_id: str) -> None:
    key = (resource.kind, resource.name)
    first = found.get(key)
    if first is None:
        found[key] = _Found(resource, resource_id)
    else:
        found[key] = _Found(first.resource, first.id, (*first.others, resource_id))


def _bucket_properties(retention: int | None, shard: int) -> dict[str, int]:
    seconds = retention or 0
    return {"retention_seconds": seconds, "shard_seconds": min(shard, seconds) if seconds else shard}


def _properties_of_bucket(bucket: Mapping[str, Any]) -> dict[str, int]:
    rule: Mapping[str, Any] = next(iter(bucket.get("retentionRules") or ()), {})
    return {
        "retention_seconds": int(rule.get("everySeconds") or 0),
        "shard_seconds": int(rule.get("shardGroupDurationSeconds") or 0),
    }


def _permissions(token: Mapping[str, Any], bucket_names: Mapping[str, str]) -> str:
    return ", ".join(sorted(_permission(entry, bucket_names) for entry in token.get("permissions") or ()))


def _permission(entry: Mapping[str, Any], bucket_names: Mapping[str, str]) -> str:
    resource = entry["resource"]
    one = resource.get("id")
    return f"{entry['action']} {resource['type']}" + (f"/{bucket_names.get(one, one)}" if one else "")


def _is_of_deleted_bucket(right: str) -> bool:
    """Whether a right is on a bucket that has no name any more, only its ID."""
    return _ID.fullmatch(right.rpartition("buckets/")[2]) is not None


def _instant(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _error(task: Mapping[str, Any]) -> str | None:
    status = task.get("lastRunStatus")
    if status in (None, "", "success"):
        return None
    return " ".join(str(task.get("lastRunError") or status).split())[:500]
