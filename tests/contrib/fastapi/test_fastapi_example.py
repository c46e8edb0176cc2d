"""``examples/fastapi`` as it is, installed from the wheel, served by uvicorn."""

from __future__ import annotations

import pytest
from serving import EXAMPLES, Served, environment

pytestmark = [pytest.mark.newest_server, pytest.mark.slow]


@pytest.fixture
def inventory(backend, tmp_path, example_python):
    python = example_python("fastapi,asyncpg", "uvicorn")
    backend.owner.execute((EXAMPLES / "fastapi/schema.sql").read_bytes())
    with Served(EXAMPLES / "fastapi", "app:app", environment(backend, tmp_path), python=python) as served:
        yield served


def test_the_inventory(inventory, backend):
    user_id = backend.sign_up_unseen()
    admin = backend.bearer(app_metadata={"role": "admin"})
    with inventory.client(headers=backend.bearer(user_id)) as client:
        # The request has created the row that the foreign key needs.
        created = client.post("/products", json={"name": "bolt", "stock": 10})
        assert (created.status_code, created.json()["stock"]) == (201, 10)
        product = created.json()["id"]
        moved = client.post(f"/products/{product}/movements", json={"quantity": -3})
        assert (moved.status_code, moved.json()) == (201, {"stock": 7})
        assert client.post(f"/products/{product}/movements", json={"quantity": -8}).status_code == 409
        assert client.post("/products", json={"name": "", "stock": -1}).status_code == 422
        assert client.get("/products").json() == [{"id": product, "name": "bolt", "stock": 7}]

        assert client.get("/products", headers={"Authorization": "Bearer x"}).status_code == 401
        assert client.get("/user-sync/status").status_code == 403
        assert client.get("/user-sync/status", headers=admin).json()["in_step"]
        assert client.post("/user-sync/sync", headers=admin).json()["errors"] == 0
        history = f"/audit/history?entity_type=product&entity_id={product}"
        assert client.get(history).status_code == 403
        (*_, event) = client.get(history, headers=admin).json()["events"]
        assert event["changes"] == [{"name": "stock", "before": 10, "after": 7}]
    # The worker sends waiting events before it ends.
    inventory.end()
    created_event, moved_event = backend.events()
    assert created_event["action"] == "product.created"
    assert created_event["changes"] == {"name": [None, "bolt"], "stock": [None, 10]}
    assert created_event["request_id"] == created.headers["x-request-id"]
    assert (moved_event["action"], moved_event["changes"]) == ("stock.adjusted", {"stock": [10, 7]})
    for event in (created_event, moved_event):
        assert (event["actor_id"], event["user_id"], event["ip"]) == (str(user_id), str(user_id), "127.0.0.1")
