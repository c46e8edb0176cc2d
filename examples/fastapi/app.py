"""An inventory with an API: signed-in users move stock, and the audit log records who did what.

Settings come from the environment: SUPABASE_URL, SUPABASE_DB_URL. Start with: uvicorn app:app
"""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field

from usersync import AsyncUserSync, AuditLog
from usersync.contrib.auth import AsyncTokenVerifier
from usersync.contrib.fastapi import (
    AuditContextMiddleware,
    CurrentUser,
    VerifiedUser,
    audit_router,
    lifespan,
    user_sync_router,
)

# Without prepared statements, so that it works through a transaction pooler.
pool = AsyncConnectionPool(
    os.environ["SUPABASE_DB_URL"],
    open=False,
    connection_class=AsyncConnection[DictRow],
    kwargs={"row_factory": dict_row, "prepare_threshold": None},
)
sync = AsyncUserSync(pool)
audit = AuditLog.from_env()
current_user = CurrentUser(AsyncTokenVerifier.from_env(), sync)

User = Annotated[VerifiedUser, Depends(current_user)]


def admin(user: User) -> VerifiedUser:
    """Allow administrators only. Only the server can write app_metadata."""
    if user.claims.get("app_metadata", {}).get("role") != "admin":
        raise HTTPException(403, "Only for administrators.")
    return user


app = FastAPI(title="Inventory", lifespan=lifespan(pool, audit))
# The proxies whose X-Forwarded-For is used: a load balancer in a private network.
app.add_middleware(AuditContextMiddleware, trusted_proxies=["10.0.0.0/8"])
app.include_router(user_sync_router(sync, protected_by=admin))
app.include_router(audit_router(audit, authorize=admin))


class Product(BaseModel):
    """The body of a request that adds a product."""

    name: str = Field(min_length=1, max_length=200)
    stock: int = Field(default=0, ge=0, le=1_000_000)


class Movement(BaseModel):
    """The change of the stock; negative numbers reduce it."""

    quantity: int = Field(ge=-1_000_000, le=1_000_000)


@app.post("/products", status_code=201)
async def create_product(product: Product, user: User) -> dict[str, Any]:
    """Add a product."""
    insert = (
        "insert into public.products (name, stock, created_by) values (%s, %s, %s) returning id, name, stock"
    )
    async with pool.connection() as connection:
        cursor = await connection.execute(insert, [product.name, product.stock, user.id])
        [row] = await cursor.fetchall()
    audit.record("product.created", entity=("product", row["id"]), after=product)
    return row


@app.post("/products/{product_id}/movements", status_code=201)
async def move_stock(product_id: int, movement: Movement, _: User) -> dict[str, Any]:
    """Change the stock; its event commits in the same transaction."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "update public.products set stock = stock + %s where id = %s and stock + %s >= 0 returning stock",
            [movement.quantity, product_id, movement.quantity],
        )
        row = await cursor.fetchone()
        if row is None:
            raise HTTPException(409, "There is no such product, or not so much of it.")
        changes = {"stock": (row["stock"] - movement.quantity, row["stock"])}
        await audit.record_in(connection, "stock.adjusted", entity=("product", product_id), changes=changes)
    return row


@app.get("/products")
async def list_products(_: User) -> list[dict[str, Any]]:
    """All products."""
    async with pool.connection() as connection:
        cursor = await connection.execute("select id, name, stock from public.products order by id")
        return await cursor.fetchall()
