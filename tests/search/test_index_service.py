"""examples/service.py answers many HTTP clients, which add and remove rows meanwhile, with what a new Index finds."""

import functools
import importlib.util
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import ROOT, SLOWNESS
from processes import together

import cossim

httpx = pytest.importorskip("httpx", reason="httpx, the HTTP client, is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn, the HTTP server, is not installed")
pytest.importorskip("fastapi", reason="fastapi is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

DIM, CLIENTS, SECONDS = 24, 8, 1.0


@pytest.fixture(scope="module")
def service():
    spec = importlib.util.spec_from_file_location("service", ROOT / "examples/service.py")
    sys.modules["service"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["service"]


@contextmanager
def served(app):
    """Yields the address of a server that runs in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    end = time.monotonic() + 20 * SLOWNESS
    while not server.started and time.monotonic() < end:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def row(name, vector, label=""):
    return {"id": name, "vector": vector.tolist(), "label": label}


def answer(response):
    assert response.status_code == 200, response.text
    return response.json()


def test_rows_of_many_clients(service, tmp_path):
    """Each client knows which of its rows the service holds, and finds them among the rows of all clients."""
    base = np.random.default_rng(0).standard_normal((300, DIM)).astype(np.float32)
    left, calls = {}, []

    def client(number, address):
        rng, mine, label = np.random.default_rng(number + 1), {}, f"client {number}"
        with httpx.Client(base_url=address, timeout=30 * SLOWNESS) as http:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                names = [f"{number}.{n}" for n in rng.integers(0, 60, 6)]
                mine.update({name: rng.standard_normal(DIM).astype(np.float32) for name in names})
                answer(http.put("/rows", json=[row(name, mine[name], label) for name in dict.fromkeys(names)]))
                name = names[0]
                query = {"vector": mine[name].tolist(), "k": 3}
                assert answer(http.post("/search", json=query))[0]["id"] == name
                found = answer(http.post("/search", json=query | {"k": 100, "label": label}))
                assert {hit["id"] for hit in found} == set(mine)
                found = answer(http.post("/search", json=query | {"label": label, "exclude": [name]}))
                assert name not in [hit["id"] for hit in found]
                assert answer(http.post("/rows/delete", json=[name, "no such row"])) == 1
                del mine[name]
                assert name not in [hit["id"] for hit in answer(http.post("/search", json=query))]
                calls.append(6)
        left.update(mine)

    app = service.make_app(DIM, tmp_path / "rows.index")
    with served(app) as address, httpx.Client(base_url=address, timeout=30 * SLOWNESS) as http:
        answer(http.put("/rows", json=[row(f"base {n}", vector) for n, vector in enumerate(base)]))
        together(*(functools.partial(client, n, address) for n in range(CLIENTS)))
        assert len(calls) >= CLIENTS
        left |= {f"base {n}": vector for n, vector in enumerate(base)}
        check(http, left)
    app = service.make_app(DIM, tmp_path / "rows.index")  # with the rows that the first one saved
    with served(app) as address, httpx.Client(base_url=address, timeout=30 * SLOWNESS) as http:
        check(http, left)
        answer(http.put("/rows", json=[row("one more", base[0] + base[1])]))
        assert answer(http.post("/search", json={"vector": (base[0] + base[1]).tolist()}))[0]["id"] == "one more"


def check(http, left):
    """The service finds what a new Index finds."""
    assert answer(http.get("/rows")) == len(left)
    names, rows = list(left), np.array(list(left.values()))
    fresh = cossim.Index(rows)
    for vector in np.random.default_rng(9).standard_normal((5, DIM)).astype(np.float32):
        found, expected = answer(http.post("/search", json={"vector": vector.tolist(), "k": 7})), fresh.topk(vector, 7)
        assert [hit["id"] for hit in found] == [names[i] for i in expected.indices]
        np.testing.assert_array_equal(np.array([hit["score"] for hit in found], np.float32), expected.values)


def test_mistakes_of_clients(service):
    with served(service.make_app(DIM)) as address, httpx.Client(base_url=address, timeout=30 * SLOWNESS) as http:
        vector = [1.0] * DIM
        assert answer(http.post("/search", json={"vector": vector})) == []
        for call, path, wrong in (
            (http.put, "/rows", [{"id": "a", "vector": [1.0]}]),
            (http.put, "/rows", [{"id": "a", "vector": ["text"] * DIM}]),
            (http.put, "/rows", [{"vector": vector}]),
            (http.post, "/search", {"vector": vector[1:]}),
            (http.post, "/search", {"vector": vector, "k": 0}),
            (http.post, "/search", {"vector": [1e300] * DIM}),
        ):
            assert call(path, json=wrong).status_code == 422
        assert answer(http.get("/rows")) == 0


def test_a_file_of_rows_of_another_length_is_refused(service, tmp_path):
    """Without this, the service would start, and refuse every row and query of the length it was started with."""
    store = service.Store(8, tmp_path / "rows.index")
    store.put([service.Row(id="a", vector=[1.0] * 8)])
    store.save()
    assert service.Store(8, tmp_path / "rows.index").numbers == {"a": 0}
    with pytest.raises(ValueError, match="rows of 8 elements, not 9"):
        service.Store(9, tmp_path / "rows.index")


def test_filters_hold_for_rows_that_are_replaced_during_the_search(service):
    """A row that is replaced gets another number, which a filter made before does not have."""
    row = service.Row(id="a", vector=[1.0, 0.0], label="x")
    store = service.Store(2)
    store.put([row, service.Row(id="b", vector=[0.0, 1.0], label="x")])
    index, pending = store.index, []

    class Replacing:
        def topk(self, *args, **filters):
            if pending:
                store.put([pending.pop()])
            return index.topk(*args, **filters)

        def __getattr__(self, name):
            return getattr(index, name)

    store.index = Replacing()
    for query, wanted in (({"label": "x"}, ["a", "b"]), ({"exclude": ["a"]}, ["b"])):
        pending.append(row)
        hits = store.search(service.Query(vector=[1.0, 0.0], k=2, **query))
        assert [hit.id for hit in hits] == wanted and not pending
