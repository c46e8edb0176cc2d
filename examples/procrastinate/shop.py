"""A shop whose orders are shipped by a worker, in the name of the user who has placed the order."""

from __future__ import annotations

import argparse
import os
from uuid import uuid4

from procrastinate import App, PsycopgConnector

from usersync import AuditLog
from usersync.contrib.procrastinate import pass_context

app = App(connector=PsycopgConnector(conninfo=os.environ["SUPABASE_DB_URL"]), import_paths=["shop"])
pass_context(app)
audit = AuditLog.from_env()


@app.task(name="ship")
def ship(order: int) -> None:
    """Ship an order. Runs in a worker."""
    audit.record("order.shipped", entity=("order", order))


@app.task(name="bill")
async def bill(order: int) -> None:
    """Send the bill. Runs in a worker."""
    audit.record("order.billed", entity=("order", order))


def place(order: int) -> None:
    """Place an order, as a request would."""
    audit.record("order.placed", entity=("order", order))
    ship.defer(order=order)
    bill.defer(order=order)


def main() -> None:
    """See README.md."""
    parser = argparse.ArgumentParser(description="Place an order.")
    parser.add_argument("order", type=int)
    parser.add_argument("--user", help="who places it; without a user, it is the shop itself")
    parser.add_argument("--tenant")
    arguments = parser.parse_args()
    with app.open():
        if arguments.user is None:
            place(arguments.order)
        else:
            request = {"request_id": str(uuid4()), "tenant_id": arguments.tenant}
            with audit.context(actor_id=arguments.user, **request):
                place(arguments.order)
    audit.flush()


if __name__ == "__main__":
    main()
