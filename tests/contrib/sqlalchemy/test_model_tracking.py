"""track(): changes of mapped objects are events in the transaction of their flush."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from sqlalchemy import ForeignKey, NullPool, func, insert, literal, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column, relationship

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync.contrib.sqlalchemy import track, tracking
from usersync.errors import ArgumentTypeError, ArgumentValueError, DatabaseError, SettingsError

pytestmark = pytest.mark.newest_server


@pytest.fixture
def models(shop, make_engine):
    """New classes for each test, because tracking cannot be ended."""

    class Base(DeclarativeBase):
        pass

    class Owner(Base):
        __tablename__ = "owners"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(default="person")
        name: Mapped[str | None]
        pets = relationship("Pet", back_populates="owner", cascade="all, delete-orphan")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012

    class Shelter(Owner):
        __mapper_args__ = {"polymorphic_identity": "shelter"}  # noqa: RUF012

    class Pet(Base):
        __tablename__ = "pets"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"))
        owner = relationship("Owner", back_populates="pets")
        name: Mapped[str] = mapped_column("called")
        secret: Mapped[str | None] = mapped_column("chip")
        token: Mapped[str | None]
        notes: Mapped[str | None]
        age: Mapped[int] = mapped_column(server_default="1")
        loud = column_property(func.upper(literal("x")))

    class Visit(Base):
        __tablename__ = "visits"
        __table_args__ = {"schema": "vet"}  # noqa: RUF012
        pet: Mapped[int] = mapped_column(primary_key=True)
        room: Mapped[str] = mapped_column(primary_key=True)

    shop.owner.execute("create schema vet")
    Base.metadata.create_all(make_engine(poolclass=NullPool))
    return SimpleNamespace(Owner=Owner, Shelter=Shelter, Pet=Pet, Visit=Visit)


@pytest.fixture
def session(shop, make_engine):
    with Session(make_engine(poolclass=NullPool)) as session:
        yield session


def changes(shop):
    return shop.events("action, entity_id, changes")


def test_each_object_is_an_event_like_those_of_row_tracking(shop, models, session, audit):
    track(models.Pet, audit)
    with audit.context(actor_id="ada", request_id="r"):
        pet = models.Pet(name="Rex", owner_id=None)
        session.add_all([pet, models.Pet(name="Tom", age=3)])
        session.commit()
        pet.name, pet.age = "Max", 2
        session.commit()
        pet.name = pet.name
        session.commit()
        session.delete(pet)
        session.commit()
    assert changes(shop) == [
        ("pets.inserted", "1", {"id": [None, 1], "called": [None, "Rex"], "age": [None, 1]}),
        ("pets.inserted", "2", {"id": [None, 2], "called": [None, "Tom"], "age": [None, 3]}),
        ("pets.updated", "1", {"called": ["[unknown]", "Max"], "age": ["[unknown]", 2]}),
        ("pets.deleted", "1", {"id": [1, None], "called": ["Max", None], "age": [2, None]}),
    ]
    assert set(shop.events("actor_id, request_id, entity_type, source")) == {("ada", "r", "pets", "app")}


def test_the_old_value_is_known_if_it_was_loaded(shop, models, session, audit):
    session.add(models.Pet(id=1, name="Rex"))
    session.commit()
    track(models.Pet, audit)
    pet = session.get(models.Pet, 1)
    pet.name = "Tom"
    pet.name, pet.notes = "Max", None
    session.commit()
    assert changes(shop) == [("pets.updated", "1", {"called": ["Rex", "Max"]})]


def test_nothing_is_recorded_of_what_is_rolled_back(shop, models, session, audit):
    track(models.Pet, audit)
    session.add(models.Pet(name="lost"))
    session.flush()
    session.rollback()
    session.add(models.Pet(name="a"))
    session.flush()
    with pytest.raises(IntegrityError), session.begin_nested():
        session.add_all([models.Pet(name="lost"), models.Pet(name=None)])
    session.add(models.Pet(name="b"))
    session.commit()
    assert [change["called"][1] for _, _, change in changes(shop)] == ["a", "b"]


def test_the_changes_of_a_failed_flush_are_discarded(shop, models, session, audit):
    track(models.Owner, audit)
    owner = models.Owner(name="lost", pets=[models.Pet(name=None)])
    session.add(owner)
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    session.add(models.Owner(name="a"))
    session.commit()
    assert [change["name"][1] for *_, change in changes(shop)] == ["a"]
    assert audit.stats().dropped == 0


def test_secrets_are_redacted_by_either_name_and_columns_left_out(shop, models, session, audit):
    track(models.Pet, audit, exclude=["notes", "age"])
    pet = models.Pet(name="Rex", **dict.fromkeys(("secret", "token", "notes"), "private"))
    session.add(pet)
    session.commit()
    pet.token, pet.notes = "other", "more"
    session.commit()
    assert [change for *_, change in changes(shop)] == [
        {
            "id": [None, 1],
            "called": [None, "Rex"],
            "chip": [None, "[redacted]"],
            "token": [None, "[redacted]"],
        },
        {"token": ["[redacted]", "[redacted]"]},
    ]


def test_computed_values_are_recorded_as_unknown(shop, models, session, audit):
    track(models.Pet, audit)
    pet = models.Pet(name=func.initcap("rex"), age=1, notes=None)
    session.add(pet)
    session.flush()
    assert pet.age == 1
    pet.age, pet.notes = models.Pet.age + 1, "older"
    session.commit()
    assert [change for *_, change in changes(shop)] == [
        {"id": [None, 1], "age": [None, 1], "called": [None, "[unknown]"]},
        {"age": [1, "[unknown]"], "notes": [None, "older"]},
    ]
    assert session.get(models.Pet, 1).age == 2


def test_relationships_and_cascades_are_recorded(shop, models, session, audit):
    track(models.Pet, audit)
    owner = models.Owner(name="Ada", pets=[models.Pet(name="Rex", age=1), models.Pet(name="Tom", age=1)])
    session.add(owner)
    session.commit()
    owner.pets.pop()
    session.commit()
    session.delete(owner)
    session.commit()
    assert [(action, key) for action, key, _ in changes(shop)] == [
        ("pets.inserted", "1"),
        ("pets.inserted", "2"),
        ("pets.deleted", "2"),
        ("pets.deleted", "1"),
    ]
    assert changes(shop)[0][2]["owner_id"] == [None, owner_id(shop)]


def owner_id(shop):
    return shop.owner.execute("select last_value from owners_id_seq").fetchone()[0]


def test_a_key_of_several_columns_and_one_that_changes(shop, models, session, audit):
    track(models.Visit, audit)
    visit = models.Visit(pet=1, room='a"b')
    session.add(visit)
    session.commit()
    visit.room = "ü"
    session.commit()
    assert [(action, key) for action, key, _ in changes(shop)] == [
        ("vet.visits.inserted", '[1, "a\\"b"]'),
        ("vet.visits.updated", '[1, "ü"]'),
    ]
    written = shop.owner.execute("select jsonb_build_array(1, 'a\"b')::text").fetchone()[0]
    assert changes(shop)[0][1] == written


def test_subclasses_are_recorded_and_may_have_their_own_options(shop, models, session, audit):
    track(models.Owner, audit)
    session.add(models.Shelter(name="first"))
    session.commit()
    track(models.Shelter, audit, exclude=["name"])
    session.add_all([models.Shelter(name="second"), models.Owner(name="Ada")])
    session.commit()
    assert [change.get("name") for *_, change in changes(shop)] == [
        [None, "first"],
        *sorted([None, [None, "Ada"]], key=bool),
    ]


def test_changes_without_an_object_are_not_recorded(shop, models, session, audit):
    track(models.Pet, audit)
    session.execute(insert(models.Pet).values(name="Rex"))
    session.execute(update(models.Pet).values(name="Tom"))
    session.bulk_save_objects([models.Pet(name="bulk")])
    session.execute(text("delete from pets"))
    session.commit()
    assert changes(shop) == []


def test_a_flush_of_many_objects_is_a_few_statements(shop, models, make_engine, statements, audit):
    track(models.Pet, audit)
    track(models.Owner, audit)
    engine = make_engine(poolclass=NullPool)
    sent = statements(engine)
    with Session(engine) as session:
        session.add_all([models.Pet(name=f"{n}") for n in range(600)])
        session.add_all([models.Pet(name="x" * 15_000, notes="y" * 15_000) for _ in range(60)])
        session.add(models.Owner(name="Ada"))
        session.commit()
    assert sum("record_audit_events" in statement for statement in sent) == 3
    assert len(shop.events("id")) == 661


def test_an_unreadable_attribute_does_not_fail_the_flush(shop, models, session, audit, monkeypatch):
    track(models.Pet, audit)

    def identity(*_):
        raise RuntimeError("the application's own code")

    monkeypatch.setattr(tracking, "joined", identity)
    session.add(models.Pet(name="Rex"))
    session.commit()
    assert shop.events("action, entity_id, metadata ->> 'unreadable'") == [
        ("pets.inserted", None, "RuntimeError")
    ]


def test_an_event_that_cannot_be_stored_does_not_fail_the_flush(shop, models, session, audit):
    track(models.Pet, audit)
    shop.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    session.add_all([models.Pet(name="Rex"), models.Pet(name="Tom")])
    session.commit()
    assert session.scalars(select(models.Pet.name).order_by(models.Pet.name)).all() == ["Rex", "Tom"]
    assert audit.stats().dropped == 2


def test_with_required_events_the_flush_fails_without_them(shop, models, session, audit):
    track(models.Pet, audit, required=True)
    shop.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    session.add(models.Pet(name="Rex"))
    with pytest.raises(DatabaseError, match="was not stored"):
        session.commit()
    session.rollback()
    assert session.scalars(select(models.Pet)).all() == []


def test_in_autocommit_events_are_stored_too(shop, models, make_engine, audit):
    track(models.Pet, audit)
    with Session(make_engine(poolclass=NullPool, isolation_level="AUTOCOMMIT")) as session:
        session.add(models.Pet(name="Rex"))
        session.flush()
        assert len(changes(shop)) == 1


def test_two_databases_have_their_own_events(shop, cluster, models, make_engine, audit):
    other = clone_installed(cluster, with_audit_log())
    try:
        engines = make_engine(poolclass=NullPool), make_engine(shop.url(dsn=other.dsn()), poolclass=NullPool)
        models.Owner.metadata.tables["owners"].create(engines[1])
        track(models.Owner, audit)
        track(models.Pet, audit)
        with Session(binds=dict(zip((models.Pet, models.Owner), engines, strict=True))) as session:
            session.add_all([models.Pet(name="Rex"), models.Owner(name="Ada")])
            session.commit()
        assert [action for action, *_ in changes(shop)] == ["pets.inserted"]
        with other.connect() as owner:
            assert owner.execute("select action from audit_logs").fetchall() == [("owners.inserted",)]
    finally:
        cluster.drop(other)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_asyncio_sessions(shop, models, audit, driver):
    track(models.Pet, audit)

    async def work(engine, name):
        with audit.context(actor_id=name):
            async with AsyncSession(engine) as session:
                pet = models.Pet(name=name)
                session.add(pet)
                await session.commit()
                # The object is expired: reading the old value would be a query, which asyncio has to await.
                pet.name = f"{name}!"
                await session.commit()

    async def main():
        engine = create_async_engine(shop.url(driver), pool_size=3)
        await asyncio.gather(*(work(engine, f"task{n}") for n in range(6)))
        await engine.dispose()

    asyncio.run(main())
    found = [(actor, change["called"][1].rstrip("!")) for actor, change in shop.events("actor_id, changes")]
    assert len(found) == 12
    assert all(actor == name for actor, name in found)


@pytest.mark.parametrize("what", [None, object, "Pet", Session])
def test_only_models_are_accepted(audit, what):
    with pytest.raises(ArgumentTypeError, match="expected a mapped class"):
        track(what, audit)


def test_an_unknown_attribute_and_tracking_twice_are_refused(models, audit):
    with pytest.raises(ArgumentValueError, match="no attribute 'note'") as raised:
        track(models.Pet, audit, exclude=["note"])
    assert "notes" in raised.value.hint
    track(models.Pet, audit)
    with pytest.raises(SettingsError, match="tracked already"):
        track(models.Pet, audit)
