"""A small inventory. Each operation records an event in the audit log, in one of three ways.

============== ================= ============================================================================
operation      recorded with     because
============== ================= ============================================================================
create_product ``record``        the change is committed; the caller does not wait for the log
report_count   ``record``        works while the database is unavailable
adjust_stock   ``record_in``     the stock and its event commit together, or neither does
delete_product ``action``        refused attempts are recorded, too
============== ================= ============================================================================

The actor is set once, around all operations: ``with audit.context(actor_id=user.id): …``
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import psycopg
from psycopg.rows import dict_row

from usersync import AuditLog

Connection = psycopg.Connection[Any]


class StockLeftError(PermissionError):
    """A product with stock cannot be deleted."""


def create_product(connection: Connection, audit: AuditLog, name: str, stock: int = 0) -> int:
    """Add a product; returns its number."""
    insert = "insert into public.products (name, stock) values (%s, %s) returning id"
    with connection.transaction():
        product_id = int(_one(connection, insert, name, stock)["id"])
    audit.record("product.created", entity=("product", product_id), after={"name": name, "stock": stock})
    return product_id


def adjust_stock(connection: Connection, audit: AuditLog, product_id: int, quantity: int) -> int:
    """Change the stock (negative numbers reduce it); returns the new stock."""
    update = "update public.products set stock = stock + %s where id = %s returning stock"
    movement = "insert into public.stock_movements (product_id, quantity) values (%s, %s)"
    with connection.transaction():
        stock = int(_one(connection, update, quantity, product_id)["stock"])
        connection.execute(movement, [product_id, quantity])
        audit.record_in(
            connection,
            "stock.adjusted",
            entity=("product", product_id),
            changes={"stock": [stock - quantity, stock]},
        )
    return stock


def delete_product(connection: Connection, audit: AuditLog, product_id: int) -> None:
    """Delete a product without stock; otherwise raises ``StockLeftError`` (recorded as denied)."""
    with audit.action("product.deleted", entity=("product", product_id)) as event, connection.transaction():
        product = _one(
            connection, "select name, stock from public.products where id = %s for update", product_id
        )
        if product["stock"]:
            raise StockLeftError(f"there are {product['stock']} left of {product['name']}")
        connection.execute("delete from public.products where id = %s", [product_id])
        event.change("name", product["name"], None)


def report_count(audit: AuditLog, product_id: int, counted: int) -> str | None:
    """Record a count of the shelf, and return the event's id. Does not wait for the database."""
    return audit.record("stock.counted", entity=("shelf", product_id), metadata={"counted": counted})


def list_products(connection: Connection) -> list[dict[str, Any]]:
    """All products, by number."""
    return _rows(connection, "select id, name, stock from public.products order by id")


def _one(connection: Connection, statement: str, *values: object) -> dict[str, Any]:
    rows = _rows(connection, statement, *values)
    if not rows:
        raise LookupError("there is no such product")
    return rows[0]


def _rows(connection: Connection, statement: str, *values: object) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode(), values).fetchall()


def main() -> None:
    """The inventory from a shell; see README.md."""
    arguments = _parser().parse_args()
    url = os.environ["DATABASE_URL"]
    with (
        psycopg.connect(url, autocommit=True) as connection,
        AuditLog(url) as audit,
        audit.context(actor_id=arguments.user),
    ):
        if arguments.command == "add":
            create_product(connection, audit, arguments.name, arguments.stock)
        elif arguments.command == "move":
            adjust_stock(connection, audit, arguments.product, arguments.quantity)
        elif arguments.command == "count":
            report_count(audit, arguments.product, arguments.counted)
        elif arguments.command == "remove":
            delete_product(connection, audit, arguments.product)
        for product in list_products(connection):
            print("{id:6}  {stock:6}  {name}".format_map(product))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A small inventory with an audit log.")
    parser.add_argument("--user", metavar="ID", help="the id of the actor in auth.users")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the stock")
    add = commands.add_parser("add", help="add a product")
    add.add_argument("name")
    add.add_argument("stock", type=int, nargs="?", default=0)
    for name, value, text in (
        ("move", "quantity", "put something in, or take it out"),
        ("count", "counted", "note what was counted on the shelf"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("product", type=int)
        command.add_argument(value, type=int)
    commands.add_parser("remove", help="delete a product").add_argument("product", type=int)
    return parser


if __name__ == "__main__":
    main()
