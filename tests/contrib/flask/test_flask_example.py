"""``examples/flask`` as it is, installed from the wheel, served by ``flask run``."""

from __future__ import annotations

import re
import subprocess

import httpx2
import pytest
from serving import EXAMPLES, environment

pytestmark = [pytest.mark.newest_server, pytest.mark.slow]


@pytest.fixture
def inventory(backend, tmp_path, example_python):
    """The URL at which it is served."""
    backend.owner.execute((EXAMPLES / "flask/schema.sql").read_bytes())
    with subprocess.Popen(
        [example_python("flask"), "-m", "flask", "--app", EXAMPLES / "flask/app.py", "run", "--port", "0"],
        env=environment(backend, tmp_path),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as served:
        said = (re.search(r"Running on (http://127\.0\.0\.1:\d+)", line) for line in served.stderr)
        yield next(found[1] for found in said if found)
        served.terminate()
        served.communicate(timeout=30)


def test_the_inventory(inventory, backend, eventually):
    user_id = backend.sign_up_unseen()
    with httpx2.Client(base_url=inventory, headers=backend.bearer(user_id), timeout=60) as client:
        # The request has created the row that the foreign key needs.
        created = client.post("/products", json={"name": "bolt", "stock": 10})
        assert (created.status_code, created.json()["stock"]) == (201, 10)
        product = created.json()["id"]
        moved = client.post(f"/products/{product}/movements", json={"quantity": -3})
        assert (moved.status_code, moved.json()) == (201, {"stock": 7})
        assert client.post(f"/products/{product}/movements", json={"quantity": -8}).status_code == 409
        for bad in ({}, [], {"name": "", "stock": 1}, {"name": 7, "stock": 1}, {"name": "a", "stock": True}):
            assert client.post("/products", json=bad).status_code == 422
        assert client.get("/products").json() == [{"id": product, "name": "bolt", "stock": 7}]
        assert client.get("/products", headers={"Authorization": "Bearer x"}).status_code == 401
        history = f"/audit/history?entity_type=product&entity_id={product}"
        assert client.get(history).status_code == 403
        admin = backend.bearer(app_metadata={"role": "admin"})
        (*_, event) = client.get(history, headers=admin).json()["events"]
        assert event["changes"] == [{"name": "stock", "before": 10, "after": 7}]
    eventually(lambda: len(backend.events()) == 2)
    created_event, moved_event = backend.events()
    assert created_event["action"] == "product.created"
    assert created_event["changes"] == {"name": [None, "bolt"], "stock": [None, 10]}
    assert created_event["request_id"] == created.headers["x-request-id"]
    assert (moved_event["action"], moved_event["changes"]) == ("stock.adjusted", {"stock": [10, 7]})
    for event in (created_event, moved_event):
        assert (event["actor_id"], event["user_id"], event["ip"]) == (str(user_id), str(user_id), "127.0.0.1")
