"""A small inventory, whose changes are recorded by the database and by the session."""

from __future__ import annotations

import argparse
import os

from sqlalchemy import CheckConstraint, Engine, ForeignKey, create_engine, func, make_url, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from usersync import AuditLog
from usersync.contrib.sqlalchemy import pass_context, track


class Base(DeclarativeBase):
    """The base class of the models."""


class Product(Base):
    """A product. Triggers record its changes: ``usersync audit track public.products``."""

    __tablename__ = "products"
    __table_args__ = (CheckConstraint("stock >= 0"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    stock: Mapped[int]
    movements: Mapped[list[Movement]] = relationship(back_populates="product")


class Movement(Base):
    """A movement of stock. The session records its changes: ``track()`` below."""

    __tablename__ = "movements"

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="cascade"))
    quantity: Mapped[int]
    note: Mapped[str | None]
    product: Mapped[Product] = relationship(back_populates="movements")


def add(session: Session, name: str, stock: int) -> Product:
    """Add a product."""
    product = Product(name=name, stock=stock)
    session.add(product)
    return product


def move(session: Session, product_id: int, quantity: int, note: str | None = None) -> int:
    """Change the stock (negative numbers reduce it); returns the new stock."""
    product = session.get_one(Product, product_id, with_for_update=True)
    product.stock += quantity
    product.movements.append(Movement(quantity=quantity, note=note))
    session.flush()
    return product.stock


def recount(session: Session) -> None:
    """Set each stock to the sum of its movements, in one statement for all of them."""
    moved = select(func.sum(Movement.quantity)).where(Movement.product_id == Product.id).scalar_subquery()
    session.execute(update(Product).where(moved.is_not(None)).values(stock=moved))


def make_engine(dsn: str) -> Engine:
    """Create an engine that passes the actor to the database."""
    engine = create_engine(make_url(dsn).set(drivername="postgresql+psycopg"))
    pass_context(engine)
    return engine


def main() -> None:
    """The inventory from a shell; see README.md."""
    arguments = _parser().parse_args()
    engine = make_engine(os.environ["SUPABASE_DB_URL"])
    with AuditLog.from_env() as audit, audit.context(actor_id=arguments.user), Session(engine) as session:
        track(Movement, audit, exclude=["note"])
        if arguments.command == "init":
            Base.metadata.create_all(engine)
        elif arguments.command == "add":
            product = add(session, arguments.name, 0)
            session.flush()
            move(session, product.id, arguments.stock)
        elif arguments.command == "move":
            move(session, arguments.product, arguments.quantity, arguments.note)
        elif arguments.command == "recount":
            recount(session)
        session.commit()
        for product in session.scalars(select(Product).order_by(Product.id)):
            print(f"{product.id:6}  {product.stock:6}  {product.name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A small inventory with an audit log.")
    parser.add_argument("--user", metavar="ID", help="the id of the actor in auth.users")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="make the tables")
    commands.add_parser("recount", help="set each stock to the sum of its movements")
    new = commands.add_parser("add", help="add a product")
    new.add_argument("name")
    new.add_argument("stock", type=int, nargs="?", default=0)
    movement = commands.add_parser("move", help="put something in, or take it out")
    movement.add_argument("product", type=int)
    movement.add_argument("quantity", type=int)
    movement.add_argument("note", nargs="?")
    return parser


if __name__ == "__main__":
    main()
