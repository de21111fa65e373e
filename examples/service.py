"""A search service: clients add, remove and search rows of vectors over HTTP, all at the same time.

    pip install cossim-c fastapi uvicorn
    python examples/service.py 384 rows.index

serves rows of 384 elements at http://127.0.0.1:8000 (its page /docs tries every call), and saves them when it is
stopped: the ids in rows.index, and the vectors in the file that it names. rows.index is replaced last, in one step, so
after a crash the old ids and the old vectors are there.

Each row has an id and a label. The Index gives a row a number; this file keeps which id has which number. FastAPI runs
each call in a thread: searches run side by side and while rows come and go, because a search sees all of an add or
remove or none of it. A row that is replaced is added and removed in one step. If a row of a result was removed while
the search ran, or a filter holds the number that a row had before it was replaced, the service searches again.
"""

import glob
import json
import os
import sys
import threading
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

import cossim

TRIES = 3  # of a search whose rows are removed or replaced meanwhile


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
        self.lock = threading.RLock()  # held while ids, labels and index change together
        self.rows = {}  # number -> (id, label)
        self.numbers = {}  # id -> number
        self.by_label = {}  # label -> numbers
        self.replaced = 0  # how often rows were replaced
        self.index = cossim.Index(dim=dim)
        if path is not None and path.exists():
            saved = json.loads(path.read_text())
            self.index = cossim.Index.load(path.with_name(saved["vectors"]))
            if self.index.dim != dim:
                raise ValueError(f"{path} has rows of {self.index.dim} elements, not {dim}: pass another file")
            for number, (name, label) in zip(self.index.numbers.tolist(), saved["rows"], strict=True):
                self._remember(number, name, label)

    def _remember(self, number, name, label):
        self.rows[number], self.numbers[name] = (name, label), number
        self.by_label.setdefault(label, set()).add(number)

    def _numbers(self, names):
        """Returns the numbers of the rows with these ids, those that there are."""
        return [self.numbers[name] for name in dict.fromkeys(names) if name in self.numbers]

    def _forget(self, numbers):
        for number in numbers:
            name, label = self.rows.pop(number)
            del self.numbers[name]
            self.by_label[label].discard(number)
            if not self.by_label[label]:
                del self.by_label[label]

    def put(self, rows):
        """Adds rows. A row whose id is there already takes the place of the old one."""
        rows = list({row.id: row for row in rows}.values())
        vectors = as_vectors(self.index, [row.vector for row in rows])
        with self.lock:
            old = self._numbers([row.id for row in rows])
            new = self.index.add(vectors, remove=old).tolist()
            self.replaced += bool(old)
            self._forget(old)
            for number, row in zip(new, rows, strict=True):
                self._remember(number, row.id, row.label)

    def delete(self, names):
        with self.lock:
            numbers = self._numbers(names)
            self.index.remove(numbers)
            self._forget(numbers)
            return len(numbers)

    def search(self, query):
        vector = as_vectors(self.index, [query.vector])[0]
        for _ in range(TRIES):
            hits = self._hits(vector, query)
            if None not in hits:
                return hits
        with self.lock:  # so that no row is removed meanwhile
            return self._hits(vector, query)

    def _hits(self, vector, query):
        """Searches once. A hit is None if its row has been removed since.

        With a filter, returns [None] if rows have been replaced since, because the filter lacks their new numbers.
        """
        filters = {}
        with self.lock:
            replaced = self.replaced
            if query.label is not None:
                filters["where"] = np.fromiter(self.by_label.get(query.label, ()), np.int64)
            if query.exclude:
                filters["exclude"] = np.array([self.numbers.get(name, -1) for name in query.exclude])
        found = self.index.topk(vector, query.k, **filters)
        places = [(n, score) for n, score in zip(found.indices.tolist(), found.values.tolist(), strict=True) if n >= 0]
        with self.lock:
            if filters and replaced != self.replaced:
                return [None]
            rows = [self.rows.get(number) for number, _ in places]
        return [row and Hit(id=row[0], score=score) for row, (_, score) in zip(rows, places, strict=True)]

    def save(self):
        """Writes the vectors to a new file and then, in one step, the file that names it. Removes older vectors."""
        with self.lock:
            vectors = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}.vectors")
            self.index.save(vectors)
            new = self.path.with_name(self.path.name + ".new")
            rows = [self.rows[number] for number in self.index.numbers.tolist()]
            with new.open("w") as file:
                json.dump({"vectors": vectors.name, "rows": rows}, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            for old in self.path.parent.glob(f"{glob.escape(self.path.name)}.*.vectors"):
                if old != vectors:
                    old.unlink()


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
