"""An episode's database: a copy of a world's snapshot, and what has changed in it since.

Everything that a task asks for, and everything that it did not ask for, is a difference between two sets of facts: rows
that a site's own queries return, with names in place of numbers wherever a row can be new. So one rule grades every
family, and a side effect needs no detector of its own.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

#: A row that a site's fact queries return: what kind of fact it is, then values.
Fact = tuple[str | int | float | None, ...]


@dataclass(frozen=True)
class Changes:
    """What is different from the start of the episode; facts may come several times."""

    added: Counter[Fact]
    removed: Counter[Fact]

    def __len__(self) -> int:
        return self.added.total() + self.removed.total()


def open_memory() -> sqlite3.Connection:
    """Open an empty database in memory that any thread may use, one at a time."""
    rows = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    rows.execute("PRAGMA foreign_keys = ON")
    return rows


def read_facts(rows: sqlite3.Connection, queries: Sequence[str]) -> Counter[Fact]:
    """Return the facts of a database as a site's queries tell them."""
    return Counter(tuple(_tidy(value) for value in row) for query in queries for row in rows.execute(query))


def _tidy(value: str | float | None) -> str | float | None:
    """Text counts up to white space: a form sends line ends of its own, and a hand adds blanks."""
    return " ".join(value.split()) if isinstance(value, str) else value


class Store:
    """One episode's database, used by the server's threads and by the grader.

    Args:
        snapshot: A world's database, as ``sqlite3.Connection.serialize`` returns it.
        queries: The site's fact queries.
    """

    def __init__(self, snapshot: bytes, queries: Sequence[str]) -> None:
        self._rows = open_memory()
        self._rows.deserialize(snapshot)
        self._queries = queries
        self._lock = threading.RLock()
        self._start = read_facts(self._rows, queries)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the database to one thread; what is written is kept only if nothing was raised."""
        with self._lock:
            self._rows.execute("BEGIN")
            try:
                yield self._rows
            except BaseException:
                self._rows.execute("ROLLBACK")
                raise
            self._rows.execute("COMMIT")

    def changes(self) -> Changes:
        """Return what is different from the start."""
        with self._lock:
            now = read_facts(self._rows, self._queries)
        return Changes(added=now - self._start, removed=self._start - now)

    def digest(self) -> str:
        """Name the state of the facts: equal names, equal facts."""
        changes = self.changes()
        text = repr([sorted(side.items(), key=repr) for side in (changes.added, changes.removed)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def close(self) -> None:
        """Forget the database."""
        with self._lock:
            self._rows.close()
