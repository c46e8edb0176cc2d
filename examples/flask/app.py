"""An inventory with Flask: signed-in users move stock, and the audit log records who did what.

Settings come from the environment: SUPABASE_URL, SUPABASE_DB_URL. Start with: flask run
"""

from __future__ import annotations

import atexit
import os
from typing import Any

from flask import Blueprint, Flask, abort, request
from psycopg import Connection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from usersync import AuditLog
from usersync.contrib.flask import FlaskUserSync, audit_blueprint

# Opened by the first request, so that each forked process has its own connections.
# Without prepared statements, so that it works through a transaction pooler.
pool = ConnectionPool(
    os.environ["SUPABASE_DB_URL"],
    open=False,
    connection_class=Connection[DictRow],
    kwargs={"row_factory": dict_row, "prepare_threshold": None},
)
atexit.register(pool.close)

MOST = 1_000_000

audit = AuditLog.from_env()
# The proxies whose X-Forwarded-For is used: a load balancer in a private network.
users = FlaskUserSync(trusted_proxies=["10.0.0.0/8"])
inventory = Blueprint("inventory", __name__)
# All views require a signed-in user. For a single view: @users.user_required
inventory.before_request(users.require_user)


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    users.init_app(app)
    app.before_request(pool.open)
    app.register_blueprint(inventory)
    app.register_blueprint(audit_blueprint(audit, authorize=require_admin))
    return app


def require_admin() -> None:
    """Allow administrators only. Only the server can write app_metadata."""
    users.require_user()
    if users.current_user.claims.get("app_metadata", {}).get("role") != "admin":
        abort(403, "Only for administrators.")


@inventory.post("/products")
def create_product() -> tuple[dict[str, Any], int]:
    """Add a product."""
    product = {"name": given("name", str), "stock": given("stock", int)}
    insert = "insert into public.products (name, stock, created_by) values (%s, %s, %s) returning id"
    with pool.connection() as connection:
        [row] = connection.execute(insert, [*product.values(), users.current_user.id]).fetchall()
    audit.record("product.created", entity=("product", row["id"]), after=product)
    return {"id": row["id"], **product}, 201


@inventory.post("/products/<int:product_id>/movements")
def move_stock(product_id: int) -> tuple[dict[str, Any], int]:
    """Change the stock; its event commits in the same transaction."""
    quantity = given("quantity", int)
    update = "update public.products set stock = stock + %s where id = %s and stock + %s >= 0 returning stock"
    with pool.connection() as connection:
        row = connection.execute(update, [quantity, product_id, quantity]).fetchone()
        if row is None:
            abort(409, "There is no such product, or its stock is too low.")
        changes = {"stock": (row["stock"] - quantity, row["stock"])}
        audit.record_in(connection, "stock.adjusted", entity=("product", product_id), changes=changes)
    return row, 201


@inventory.get("/products")
def list_products() -> list[dict[str, Any]]:
    """All products."""
    with pool.connection() as connection:
        return connection.execute("select id, name, stock from public.products order by id").fetchall()


def given(name: str, kind: type) -> Any:
    """A field of the request's body."""
    body: Any = request.get_json()
    value = body.get(name) if isinstance(body, dict) else None
    if type(value) is not kind or value == "" or (isinstance(value, int) and abs(value) > MOST):
        abort(422, f"{name} is missing or invalid.")
    return value
