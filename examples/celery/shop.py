"""A shop whose orders are shipped by a worker, in the name of the user who has placed the order."""

from __future__ import annotations

import argparse
import os
from uuid import uuid4

from celery import Celery

from usersync import AuditLog
from usersync.contrib.celery import pass_context

app = Celery("shop", broker=os.environ.get("CELERY_BROKER", "redis://localhost:6379/0"))
app.conf.broker_connection_retry_on_startup = True
pass_context()
audit = AuditLog.from_env()


@app.task(name="ship")
def ship(order: int) -> None:
    """Ship an order. Runs in a worker."""
    audit.record("order.shipped", entity=("order", order))


def place(order: int) -> None:
    """Place an order, as a request would."""
    audit.record("order.placed", entity=("order", order))
    ship.delay(order)


def main() -> None:
    """See README.md."""
    parser = argparse.ArgumentParser(description="Place an order.")
    parser.add_argument("order", type=int)
    parser.add_argument("--user", help="who places it; without a user, it is the shop itself")
    parser.add_argument("--tenant")
    arguments = parser.parse_args()
    if arguments.user is None:
        place(arguments.order)
    else:
        request = {"request_id": str(uuid4()), "tenant_id": arguments.tenant}
        with audit.context(actor_id=arguments.user, **request):
            place(arguments.order)
    audit.flush()


if __name__ == "__main__":
    main()
