"""Counters shown by `GET /stats`."""

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """The simulator's counters since its start."""

    connection_attempts: int = 0
    connections_refused: int = 0
    connections_dropped: int = 0
    websocket_requests: int = 0
    rest_requests: int = 0
    rest_errors: int = 0
    frames_sent: int = 0
    updates_sent: int = 0
    snapshots_sent: int = 0
    heartbeats_sent: int = 0
    data_frames_lost: int = 0
