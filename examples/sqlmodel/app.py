"""A shop: users, whom usersync fills in, and their orders."""

import argparse
import os
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import DateTime, make_url
from sqlmodel import Field, Session, SQLModel, create_engine, select

from usersync import AuditLog


class User(SQLModel, table=True):
    """A user. usersync creates and updates the row."""

    __tablename__ = "users"

    id: UUID = Field(primary_key=True)
    email: str | None = None
    full_name: str | None = None
    deleted_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class Order(SQLModel, table=True):
    """An order of a user."""

    __tablename__ = "orders"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    user_id: UUID = Field(foreign_key="users.id", index=True)
    product: str


def make_order(session: Session, audit: AuditLog, user_id: UUID, product: str) -> Order:
    """Order a product, with an event in the same transaction."""
    order = Order(user_id=user_id, product=product)
    session.add(order)
    session.flush()
    audit.record_in(
        session, "order.created", entity=("order", order.id), user_id=user_id, actor_id=user_id, required=True
    )
    return order


def main() -> None:
    """The shop from a shell; see README.md."""
    parser = argparse.ArgumentParser(description="A shop.")
    commands = parser.add_subparsers(dest="command", required=True)
    order = commands.add_parser("order", help="order a product")
    order.add_argument("user", type=UUID)
    order.add_argument("product")
    arguments = parser.parse_args()
    url = make_url(os.environ["SUPABASE_DB_URL"])
    engine = create_engine(url.set(drivername="postgresql+psycopg"))
    with AuditLog.from_env() as audit, Session(engine) as session:
        make_order(session, audit, arguments.user, arguments.product)
        session.commit()
        for each in session.exec(select(Order)):
            print(each.product)
    engine.dispose()


if __name__ == "__main__":
    main()
