"""A search service: clients add, remove and search rows of vectors over HTTP, all at the same time.

    pip install cossim-c fastapi uvicorn
    python examples/service.py 384 rows.index

serves rows of 384 elements at http://127.0.0.1:8000 (its page /docs tries every call), and saves them in rows.index and
rows.index.json when it is stopped.

Each row has an id and a label. The Index gives a row a number; this file keeps which id has which number. FastAPI runs
each call in a thread. Searches run at the same time, also while rows are added and removed, because a search sees all
of an add or remove or none of it. Rows that are removed or replaced while a search runs are left out of its result,
which then has fewer than k rows.
"""

import json
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

import cossim


class Row(BaseModel):
    id: str
    vector: list[float]
    label: str = ""


class Query(BaseModel):
    vector: list[float]
    k: int = Field(default=10, ge=1, le=1000)
    label: str | None = None  # only rows with this label
    exclude: list[str] = []  # ids of rows that the client has seen


class Hit(BaseModel):
    id: str
    score: float


class Store:
    """An Index with ids and labels of its rows."""

    def __init__(self, dim, path=None):
        self.path = path
        self.lock = threading.Lock()  # held while ids, labels and index change together
        self.rows = {}  # number -> (id, label)
        self.numbers = {}  # id -> number
        self.by_label = {}  # label -> numbers
        self.index = cossim.Index(dim=dim)
        if path is not None and path.exists():
            self.index = cossim.Index.load(path)
            if self.index.dim != dim:
                raise ValueError(f"{path} has rows of {self.index.dim} elements, not {dim}: pass another file")
            for number, (name, label) in zip(
                self.index.numbers.tolist(), json.loads(self._ids().read_text()), strict=True
            ):
                self._remember(number, name, label)

    def _ids(self):
        return self.path.with_name(self.path.name + ".json")

    def _remember(self, number, name, label):
        self.rows[number], self.numbers[name] = (name, label), number
        self.by_label.setdefault(label, set()).add(number)

    def _forget(self, names):
        """Removes the rows with these ids, and ignores unknown ids. Returns how many rows it removed."""
        numbers = [self.numbers.pop(name) for name in names if name in self.numbers]
        self.index.remove(numbers)
        for number in numbers:
            _, label = self.rows.pop(number)
            self.by_label[label].discard(number)
            if not self.by_label[label]:
                del self.by_label[label]
        return len(numbers)

    def put(self, rows):
        """Adds rows. A row whose id is there already takes the place of the old one."""
        rows = list({row.id: row for row in rows}.values())
        vectors = as_vectors(self.index, [row.vector for row in rows])
        with self.lock:
            self._forget([row.id for row in rows])
            for number, row in zip(self.index.add(vectors).tolist(), rows, strict=True):
                self._remember(number, row.id, row.label)

    def delete(self, names):
        with self.lock:
            return self._forget(names)

    def search(self, query):
        vector = as_vectors(self.index, [query.vector])[0]
        filters = {}
        with self.lock:
            if query.label is not None:
                filters["where"] = np.fromiter(self.by_label.get(query.label, ()), np.int64)
            if query.exclude:
                filters["exclude"] = np.array([self.numbers.get(name, -1) for name in query.exclude])
        found = self.index.topk(vector, query.k, **filters)
        with self.lock:  # a row that was removed since has no id any more
            hits = [
                (self.rows.get(n), score)
                for n, score in zip(found.indices.tolist(), found.values.tolist(), strict=True)
            ]
        return [Hit(id=row[0], score=score) for row, score in hits if row is not None]

    def save(self):
        with self.lock:
            self.index.save(self.path)
            self._ids().write_text(json.dumps([self.rows[number] for number in self.index.numbers.tolist()]))


def as_vectors(index, vectors):
    if any(len(vector) != index.dim for vector in vectors):
        raise HTTPException(422, f"vectors must have {index.dim} elements")
    with np.errstate(over="ignore"):  # from numbers beyond float32, which the next line finds
        vectors = np.array(vectors, np.float32).reshape(len(vectors), index.dim)
    if not np.isfinite(vectors).all():
        raise HTTPException(422, "vectors must hold finite numbers")
    return vectors


def make_app(dim, path=None):
    """Returns the service for rows of `dim` elements, which are kept in the file `path` between two runs."""
    store = Store(dim, None if path is None else Path(path))

    @asynccontextmanager
    async def lifespan(app):
        yield
        if store.path is not None:
            store.save()

    app = FastAPI(title="cossim", lifespan=lifespan)

    # These functions are not async, so FastAPI calls each in a thread of its pool, and a long search blocks no other.

    @app.get("/rows")
    def count() -> int:
        return len(store.index)

    @app.put("/rows")
    def put(rows: list[Row]) -> int:
        store.put(rows)
        return len(rows)

    @app.post("/rows/delete")
    def delete(ids: list[str]) -> int:
        return store.delete(ids)

    @app.post("/search")
    def search(query: Query) -> list[Hit]:
        return store.search(query)

    return app


if __name__ == "__main__":
    import uvicorn

    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    uvicorn.run(make_app(int(sys.argv[1]), *sys.argv[2:]))
