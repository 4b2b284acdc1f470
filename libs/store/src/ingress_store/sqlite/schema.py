"""The tables, and the comparison with those in a file."""

import sqlite3

from ingress_store.bootstrap import BootstrapState, ResourceState, StoreResource, compare

VERSION = 1
"""Layout of the tables, in the file's `user_version`."""

_ROW = """    exchange TEXT NOT NULL,
    symbol TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    vwap TEXT NOT NULL,
    trades INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    infilled INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    source TEXT NOT NULL,
    at REAL NOT NULL,
    written_at REAL NOT NULL,
"""

# Prices and volumes are text, because a float would not keep their digits. `written_at` (the wall clock of the write)
# decides the retention: old candles that are imported today are young. `series` saves a scan of all candles.
TABLES: dict[str, str] = {
    "candles": f"""CREATE TABLE candles (
{_ROW}    PRIMARY KEY (exchange, symbol, timeframe, open_time)
) WITHOUT ROWID""",
    "ticks": f"""CREATE TABLE ticks (
{_ROW}    PRIMARY KEY (exchange, symbol, at, open_time)
) WITHOUT ROWID""",
    "series": """CREATE TABLE series (
    exchange TEXT NOT NULL,
    symbol TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    PRIMARY KEY (exchange, symbol, timeframe)
) WITHOUT ROWID""",
}
INDEXES: dict[str, str] = {
    "candles_by_age": "CREATE INDEX candles_by_age ON candles (timeframe, written_at)",
    "ticks_by_age": "CREATE INDEX ticks_by_age ON ticks (written_at)",
}


class LayoutError(Exception):
    """The file has different tables under our names, or is from a newer version."""


def inspect(connection: sqlite3.Connection, store: str) -> BootstrapState:
    """Compare the tables and indexes in the file with the expected ones."""
    expected = [StoreResource("table", name, {"definition": sql}) for name, sql in TABLES.items()]
    expected += [StoreResource("index", name, {"definition": sql}) for name, sql in INDEXES.items()]
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND name NOT LIKE 'sqlite_%'"
    )
    found = [StoreResource(kind, name, {"definition": sql}) for kind, name, sql in rows]
    return compare(store, expected, found)


def create_missing(connection: sqlite3.Connection, store: str) -> tuple[str, ...]:
    """Create the missing resources in one transaction; returns them. LayoutError if something else has one of our
    names.
    """
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise LayoutError(f"expected tables of version {VERSION}, got {version}: a newer version wrote this file")
        changes = []
        for row in inspect(connection, store).difference:
            if row.state is ResourceState.DIFFERENT:
                raise LayoutError(f"expected our {row.kind} {row.name}, got another one of that name")
            connection.execute({**TABLES, **INDEXES}[row.name])
            changes.append(f"created {row.kind} {row.name}")
        if version != VERSION:
            connection.execute(f"PRAGMA user_version = {VERSION}")
    return tuple(changes)
