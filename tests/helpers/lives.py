"""Random lives of an Index: after adds and removes, each search must find what a new Index of the live rows finds.

    python tests/helpers/lives.py 10000

runs that many lives, each with its own seed.
"""

import copy
import pickle
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.testing import assert_array_equal as same

import cossim

# The dtype of an index, and dtypes whose rows it takes without a change of their values.
EXACT = {
    "float32": ("float16", "bfloat16", "int8", "bool"),
    "float64": ("float32", "float16", "bfloat16", "int16"),
    "float16": ("int8",),
    "bfloat16": ("int8",),
    "int8": ("bool",),
    "int64": ("int8", "uint8", "bool"),
    "uint8": ("bool",),
    "bool": (),
}


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


class Life:
    """An index, and a model of it: a dict from numbers to live rows."""

    def __init__(self, seed, folder):
        self.rng = np.random.default_rng(seed)
        self.folder, self.log = folder, [f"seed {seed}"]
        self.binary = self.rng.random() < 0.15
        self.dtype = "uint8" if self.binary else str(self.rng.choice(list(EXACT)))
        self.size = int(self.rng.choice([1, 3, 16, 24, 40]))
        self.eps = float(self.rng.choice([1e-8, 0.5]))
        self.rows, self.given = {}, 0
        options = {"eps": self.eps, "binary": self.binary}
        if self.rng.random() < 0.3:
            corpus = self.new_rows(0)
            self.index = cossim.Index(corpus, **options)
            if not self.binary and self.rng.random() < 0.5:
                self.index = cossim.Index(dim=self.size, **options)
        else:
            corpus = self.new_rows(int(self.rng.integers(1, 150)))
            self.remember(corpus)
            corpus = np.asfortranarray(corpus) if self.rng.random() < 0.2 else corpus
            self.index = cossim.Index(corpus, **options)

    # ---- the model ----

    def new_rows(self, count, dtype=None):
        """Rows with few different values, some of them equal, so that scores tie."""
        dtype = dtype_of(dtype or self.dtype)
        rows = self.rng.integers(0 if dtype.kind in "bu" else -3, 4, (count, self.size))
        rows[:, self.rng.random(self.size) < 0.5] = 0
        if self.rng.random() < 0.5 and dtype.kind not in "iub":
            rows = rows + self.rng.standard_normal(rows.shape) * (self.rng.random((count, 1)) < 0.5)
        if self.binary:
            rows = self.rng.integers(0, 4, (count, self.size))
        if count and self.rows and self.rng.random() < 0.5:
            chosen = self.rng.choice(list(self.rows), count)
            with np.errstate(all="ignore"):
                rows = np.array([self.rows[n] for n in chosen]).astype(dtype)
        return rows.astype(dtype)

    def remember(self, rows):
        rows = rows.astype(dtype_of(self.dtype))
        numbers = range(self.given, self.given + len(rows))
        self.rows.update(zip(numbers, rows, strict=True))
        self.given += len(rows)
        return list(numbers)

    @property
    def numbers(self):
        return np.array(list(self.rows), np.int64)

    @property
    def corpus(self):
        return np.array(list(self.rows.values()), dtype_of(self.dtype)).reshape(len(self.rows), self.size)

    # ---- events ----

    def add(self):
        count = int(self.rng.choice([0, 1, 10, self.rng.integers(0, 200)]))
        others = EXACT[self.dtype] if self.rows and not self.binary else ()  # the first rows can choose the dtype
        dtype = str(self.rng.choice([self.dtype, *others]))
        rows = self.new_rows(count, dtype)
        given = self.index.add(rows[0] if count == 1 and self.rng.random() < 0.5 else rows)
        assert given.dtype == np.int64 and given.tolist() == self.remember(rows)

    def remove(self):
        share = self.rng.choice([0.02, 0.2, 0.9, 1.0], p=[0.4, 0.45, 0.1, 0.05])
        gone = self.numbers[self.rng.random(len(self.rows)) < share]
        self.rng.shuffle(gone)
        self.index.remove(gone)
        for number in gone.tolist():
            del self.rows[number]
        for number in gone[:1].tolist():
            try:
                self.index.remove([*self.numbers[:1].tolist(), number])
            except IndexError:
                continue
            raise AssertionError("a removed row was removed again")

    def compact(self):
        same(self.index.compact(), self.numbers)
        self.rows = dict(enumerate(self.rows.values()))
        self.given = len(self.rows)

    def save(self):
        path = self.folder / "index"
        self.index.save(path)
        self.index = cossim.Index.load(path, mmap=bool(self.rng.integers(2)), verify=bool(self.rng.integers(2)))

    def pickle(self):
        self.index = pickle.loads(pickle.dumps(self.index))

    def copy(self):
        """The original and its copy change alone."""
        other = copy.copy(self.index)
        if self.rng.random() < 0.5:
            self.index, other = other, self.index
        other.add(self.new_rows(5))
        other.remove(other.numbers[::2])

    def search(self):
        rows, numbers = self.corpus, self.numbers
        same(self.index.numbers, numbers)
        assert len(self.index) == len(rows)
        if not len(rows):
            for k in (1, 5):
                found = self.index.topk(self.new_rows(2), k)
                assert np.isnan(found.values).all() and (found.indices == -1).all()
            assert len(self.index.pairs_above(self.new_rows(2), -1).j) == len(self.index.duplicate_groups(0)) == 0
            assert self.index.topk(None, 2).indices.shape == (0, 2) and len(self.index.pairs_above(None, 0.5).i) == 0
            return
        same(bytes_of(self.index.corpus), bytes_of(rows))
        some = self.rng.integers(0, len(rows), 7)
        same(bytes_of(self.index[numbers[some]]), bytes_of(rows[some]))
        options = {"eps": self.eps, "binary": self.binary}
        queries = np.concatenate([rows[some[:2]], self.new_rows(int(self.rng.choice([0, 3, 20])))])
        k, threshold = int(self.rng.integers(1, len(rows) + 9)), float(self.rng.choice([-0.5, 0.3, 0.9, 1]))
        by_number, by_place = self.filters(len(queries)) if self.rng.random() < 0.7 else ({}, {})
        found, wanted = self.index.topk(queries, k, **by_number), cossim.topk(queries, rows, k, **by_place, **options)
        same(found.values, wanted.values)
        same(found.indices, np.append(numbers, -1)[wanted.indices])
        found = self.index.pairs_above(queries, threshold, **by_number)
        wanted = cossim.pairs_above(queries, threshold, rows, **by_place, **options)
        same(found.i, wanted.i)
        same(found.j, numbers[wanted.j])
        same(found.values, wanted.values)
        by_number, by_place = self.filters(len(rows)) if self.rng.random() < 0.7 else ({}, {})
        found = self.index.pairs_above(None, threshold, **by_number)
        wanted = cossim.pairs_above(rows, threshold, **by_place, **options)
        same(found.i, numbers[wanted.i])
        same(found.j, numbers[wanted.j])
        same(found.values, wanted.values)
        found, wanted = self.index.topk(None, k, **by_number), cossim.topk(rows, None, k, **by_place, **options)
        same(found.values, wanted.values)
        same(found.indices, np.append(numbers, -1)[wanted.indices])
        labels = cossim.duplicate_groups(rows, threshold, **options)
        same(self.index.duplicate_groups(threshold), numbers[labels])

    def filters(self, queries):
        """Returns random where= and exclude= of the index, by number, and of the functions, by place."""
        numbers, rng = self.numbers, self.rng
        share = rng.choice([0.01, 0.3, 0.9])
        kinds = [(self.given,), (queries, self.given)]
        mask = rng.random(kinds[rng.integers(2)]) < share
        chosen = rng.choice(self.given, int(share * self.given) + 1)  # removed ones too
        shape = (3,) if rng.random() < 0.5 else (queries, 3)
        exclude = np.where(rng.random(shape) < 0.3, -1, rng.choice(self.given, shape))
        place = {number: at for at, number in enumerate(numbers.tolist())} | {-1: -1}
        places = np.vectorize(lambda number: place.get(number, -1), otypes=[np.int64])
        by_number, by_place = {}, {}
        if rng.random() < 0.7:
            if rng.random() < 0.5:
                by_number["where"], by_place["where"] = mask, mask[..., numbers]
            else:
                chosen_places = places(chosen)
                by_number["where"], by_place["where"] = chosen, chosen_places[chosen_places >= 0]
        if rng.random() < 0.5:
            by_number["exclude"], by_place["exclude"] = exclude, places(exclude)
        return by_number, by_place

    def live(self, steps):
        events = [self.add, self.remove, self.search, self.save, self.pickle, self.copy, self.compact]
        for event in self.rng.choice(len(events), steps, p=[0.3, 0.25, 0.2, 0.1, 0.05, 0.05, 0.05]):
            self.log.append(events[event].__name__)
            events[event]()
        self.log.append("the end")
        self.search()


def bytes_of(rows):
    return np.ascontiguousarray(rows).view(np.uint8)


def run(seeds, steps):
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            life = Life(seed, Path(folder))
            try:
                life.live(steps)
            except BaseException as error:
                print(life.log, life.dtype, life.size, life.binary, repr(error), flush=True)
                raise


if __name__ == "__main__":
    lives = int(sys.argv[1])
    for first in range(0, lives, 500):
        run(range(first, min(first + 500, lives)), 30)
        print(min(first + 500, lives), "lives", flush=True)
