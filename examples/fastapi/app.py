"""An inventory with an API: signed-in users move stock, and the audit log records who did what.

Settings come from the environment: SUPABASE_URL, SUPABASE_DB_URL. Start with: uvicorn app:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator  # noqa: TC003 - FastAPI reads the annotations
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, HTTPException, Request
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

sync = AsyncUserSync.from_env()
audit = AuditLog.from_env()
current_user = CurrentUser(AsyncTokenVerifier.from_env(), sync)

User = Annotated[VerifiedUser, Depends(current_user)]


def admin(user: User) -> VerifiedUser:
    """Allow administrators only. Only the server can write app_metadata."""
    if user.claims.get("app_metadata", {}).get("role") != "admin":
        raise HTTPException(403, "Only for administrators.")
    return user


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[None]:
    """Open the pool here and not at import: it belongs to the event loop that it is created in."""
    # Without prepared statements, so that it works through a transaction pooler.
    connections = asyncpg.create_pool(os.environ["SUPABASE_DB_URL"], statement_cache_size=0)
    async with lifespan(sync, audit)(app), connections as pool:
        app.state.pool = pool
        yield


async def connection(request: Request) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the pool, for one request."""
    async with request.app.state.pool.acquire() as lent:
        yield lent


Connection = Annotated[asyncpg.Connection, Depends(connection)]

app = FastAPI(title="Inventory", lifespan=opened)
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
async def create_product(product: Product, user: User, connection: Connection) -> dict[str, Any]:
    """Add a product."""
    row = await connection.fetchrow(
        "insert into public.products (name, stock, created_by) values ($1, $2, $3) returning id, name, stock",
        *(product.name, product.stock, user.id),
    )
    audit.record("product.created", entity=("product", row["id"]), after=product)
    return dict(row)


@app.post("/products/{product_id}/movements", status_code=201)
async def move_stock(product_id: int, movement: Movement, _: User, connection: Connection) -> dict[str, Any]:
    """Change the stock; its event commits in the same transaction."""
    async with connection.transaction():
        stock = await connection.fetchval(
            "update public.products set stock = stock + $1 where id = $2 and stock + $1 >= 0 returning stock",
            *(movement.quantity, product_id),
        )
        if stock is None:
            raise HTTPException(409, "There is no such product, or its stock is too low.")
        changes = {"stock": (stock - movement.quantity, stock)}
        await audit.arecord_in(connection, "stock.adjusted", entity=("product", product_id), changes=changes)
    return {"stock": stock}


@app.get("/products")
async def list_products(_: User, connection: Connection) -> list[dict[str, Any]]:
    """All products."""
    return [dict(row) for row in await connection.fetch("select id, name, stock from products order by id")]
