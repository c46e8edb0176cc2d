"""The parser for hand-written trigger functions."""

from __future__ import annotations

import pytest

from usersync.config.mapping import TableName
from usersync.schema.trigger_parser import Condition, Value, Write, parse_function

USERS = TableName("public", "users")
INSERT = "insert into public.users (id, email) values (new.id, new.email)"


def parse(statements: str):
    return parse_function(f"begin {statements}; return new; end;")


def written(expression: str) -> Value | None:
    """The parsed value of a column."""
    parsed = parse(f"insert into users (x) values ({expression})")
    assert parsed.other_effects == ()
    return parsed.writes[0].values["x"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("new.id", Value(("id",))),
        ("NEW.Email", Value(("email",))),
        ("lower(new.email)", Value(("email",))),
        ("(new.email)::text", Value(("email",))),
        ("new.email::character varying(20)", Value(("email",))),
        ("new.raw_user_meta_data", Value(("user_metadata",))),
        ("new.raw_user_meta_data->>'full_name'", Value(("user_metadata.full_name",))),
        ("(new.raw_user_meta_data ->> 'age')::int", Value(("user_metadata.age",))),
        ("new.raw_app_meta_data #>> '{a,b}'", Value(("app_metadata.a.b",))),
        ("new.raw_user_meta_data -> 'it''s' ->> 'b'", Value(("user_metadata.it's.b",))),
        (
            "coalesce(new.raw_user_meta_data->>'a', (new.raw_user_meta_data->>'b'), '')",
            Value(("user_metadata.a", "user_metadata.b"), ""),
        ),
        ("coalesce(new.phone, null)", Value(("phone",))),
        ("'free'::public.plan", Value(default="free")),
        ("42", Value(default=42)),
        ("1.5", Value(default=1.5)),
        ("true", Value(default=True)),
        ("-1", Value(default=-1)),
        ("split_part(new.email, '@', 1)", Value(expression="split_part(email, '@', 1)")),
        ("left(new.id::text, 8)", Value(expression="left(id::text, 8)")),
        (
            "'user_' || substr(md5(random()::text), 1, 8)",
            Value(expression="'user_' || substr(md5(random()::text), 1, 8)"),
        ),
        ("coalesce(new.email, new.id::text)", Value(("email", "id"))),
        (
            "case when new.email is null then 'a' else 'b' end",
            Value(expression="case when email is null then 'a' else 'b' end"),
        ),
        (
            "coalesce(new.raw_user_meta_data->>'n', split_part(new.email, '@', 1))",
            Value(expression="coalesce(raw_user_meta_data ->> 'n', split_part(email, '@', 1))"),
        ),
        ("gen_random_uuid()", Value(expression="gen_random_uuid()")),
        ("nullif(trim(new.email), '')", Value(expression="nullif(trim(email), '')")),
        ("now()", Value(is_now=True)),
        ("current_timestamp", Value(is_now=True)),
    ],
)
def test_a_value_that_is_copied_or_computed_is_parsed(expression, value):
    assert written(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "new.encrypted_password",
        "new.nothing_of_the_kind",
        "new.raw_user_meta_data->>'a$b'",
        "(select 1)",
        "public.make_name(new.email)",
        "make_name(new.email)",
        "'x'::public.kind || new.email",
        "regexp_replace(new.email, '\\W', '')",
        "md5(new.encrypted_password)",
        "variable",
        "old.email",
    ],
)
def test_an_unsupported_expression_is_not_parsed(expression):
    assert written(expression) is None


@pytest.mark.parametrize(
    ("statements", "kind", "fails"),
    [
        (INSERT, "insert", True),
        (f"{INSERT} on conflict do nothing", "insert", False),
        (f"{INSERT} on conflict (id) do update set email = excluded.email", "insert", False),
        (f"if tg_op = 'INSERT' then {INSERT}", "insert", True),
        ("update public.users set email = new.email where id = new.id", "update", False),
        ("update public.users set email = new.email where new.id = users.id", "update", False),
        ("delete from public.users where id = old.id", "delete", False),
    ],
)
def test_statements_that_copy_are_parsed(statements, kind, fails):
    parsed = parse(statements)
    assert parsed.other_effects == ()
    assert [(each.kind, each.table, each.fails_on_conflict) for each in parsed.writes] == [
        (kind, USERS, fails)
    ]


def test_a_function_with_comments_mixed_case_and_a_handler_is_parsed():
    parsed = parse_function("""
        declare  -- nothing; 'really'
        BEGIN
          /* insert into public.other values (1); */
          IF TG_OP = 'INSERT' OR new.email IS DISTINCT FROM old.email THEN
            INSERT INTO "public"."users" AS u (id, "Full Name", plan)
            VALUES (NEW.id, NEW.raw_user_meta_data->>'name', 'free')
            ON CONFLICT (id) DO UPDATE SET "Full Name" = excluded."Full Name", updated_at = now();
          END IF;
          RETURN NEW;
        EXCEPTION
          WHEN unique_violation THEN RAISE WARNING 'exists %', sqlerrm; RETURN NEW;
          WHEN others THEN NULL; RETURN NEW;
        END;
    """)
    assert parsed.other_effects == ()
    assert parsed.writes == (
        Write(
            "insert",
            USERS,
            {
                "id": Value(("id",)),
                "Full Name": Value(("user_metadata.name",)),
                "plan": Value(default="free"),
            },
            Condition(frozenset({"INSERT", "UPDATE"})),
            conflict=("id",),
            updated={"Full Name": Value(("user_metadata.name",)), "updated_at": Value(is_now=True)},
        ),
    )


@pytest.mark.parametrize(
    ("statements", "effect"),
    [
        ("perform net.http_post('https://example.com')", "calls net.http_post()"),
        ("perform pg_notify('a', 'b')", "calls pg_notify()"),
        ("select make_team(new.id) into x", "calls make_team()"),
        ("raise exception 'no'", "raises errors of its own"),
        ("raise 'no'", "raises errors of its own"),
        ("execute 'drop table ' || x", "runs dynamic SQL"),
        ("x := 1", "has statements of its own"),
        (
            f"if new.email like '%@corp.com' then {INSERT}; end if",
            "acts only under a condition that usersync does not know",
        ),
        (
            f"if new.email is null then return new; end if; {INSERT}",
            "acts only under a condition that usersync does not know",
        ),
        (f"if not found then {INSERT}; end if", "acts only under a condition that usersync does not know"),
        (
            f"if tg_op = 'INSERT' and new.phone is null then return new; end if; {INSERT}",
            "acts only under a condition that usersync does not know",
        ),
        (
            "insert into public.users select new.id, new.email",
            "inserts into public.users in a way that usersync cannot read",
        ),
        (
            "insert into public.users (id) select id from public.old",
            "inserts into public.users in a way that usersync cannot read",
        ),
        (
            "if exists (select 1 from public.x) then null; end if",
            "has a condition that usersync does not know",
        ),
        (
            f"begin {INSERT}; exception when others then insert into public.errors values (sqlerrm); end",
            "inserts into public.errors in a way that usersync cannot read",
        ),
        (
            "insert into public.users (id) values (new.id), (old.id)",
            "inserts into public.users in a way that usersync cannot read",
        ),
        ("update public.users set seen = true", "updates public.users in a way that usersync cannot read"),
        (
            "update public.users set seen = true where id = new.id and not seen",
            "updates public.users in a way that usersync cannot read",
        ),
        (
            "delete from public.users where email = old.email",
            "deletes from public.users in a way that usersync cannot read",
        ),
        ("return x", "has statements of its own"),
    ],
)
def test_other_effects_are_described(statements, effect):
    assert parse(statements).other_effects == (effect,)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not a function",
        "begin insert into $$ users",
        "begin x := E'a\\'b'; end",
        "begin " + "x " * 50_000,
    ],
)
def test_text_that_cannot_be_parsed_is_another_effect(body):
    (effect,) = parse_function(body).other_effects
    assert effect.startswith("cannot be read")
    assert len(effect) < 100


def test_another_language_is_another_effect():
    assert parse_function("whatever", "plv8").other_effects == ("is written in plv8",)


CONFIRMED = Condition(frozenset({"UPDATE"}), frozenset({"confirmed"}))


def conditions(statements: str):
    parsed = parse(statements)
    assert parsed.other_effects == ()
    return [(each.kind, each.condition) for each in parsed.writes]


def test_each_branch_of_tg_op_has_its_operation():
    """A function for all three operations, which returns early from two of them."""
    assert conditions(f"""
        if tg_op = 'DELETE' then delete from public.users where id = old.id; return old; end if;
        if (TG_OP = 'INSERT') then {INSERT};
        elsif tg_op = 'UPDATE' then update public.users set email = new.email where id = new.id;
        end if
    """) == [
        ("delete", Condition(frozenset({"DELETE"}))),
        ("insert", Condition(frozenset({"INSERT"}))),
        ("update", Condition(frozenset({"UPDATE"}))),
    ]


@pytest.mark.parametrize(
    "condition",
    [
        "new.email_confirmed_at is not null and old.email_confirmed_at is null",
        "(old.confirmed_at is null) and (new.confirmed_at is not null)",
        "old.confirmed_at IS NULL AND new.confirmed_at IS NOT NULL and tg_op = 'UPDATE'",
    ],
)
def test_a_row_created_at_confirmation_is_recognized(condition):
    assert conditions(f"if {condition} then {INSERT}; end if") == [("insert", CONFIRMED)]


@pytest.mark.parametrize(
    "condition",
    ["not new.is_anonymous", "new.is_anonymous is not true", "coalesce(new.is_anonymous, false) = false"],
)
def test_a_condition_that_excludes_anonymous_users_is_recognized(condition):
    (found,) = conditions(f"if {condition} then {INSERT}; end if")
    assert found[1].only == {"permanent"}


def test_values_that_are_assigned_to_variables_are_parsed():
    parsed = parse_function("""
        declare name text := coalesce(new.raw_user_meta_data->>'name', ''); mail text;
        begin mail := lower(new.email);
        insert into users (id, name, email) values (new.id, name, mail); return new;
        end
    """)
    assert parsed.other_effects == ()
    assert parsed.writes[0].values == {
        "id": Value(("id",)),
        "name": Value(("user_metadata.name",), ""),
        "email": Value(("email",)),
    }


def test_a_variable_that_is_assigned_under_a_condition_is_not_parsed():
    parsed = parse("if new.phone is null then x := 'a'; end if; insert into users (x) values (x)")
    assert "has a condition that usersync does not know" in parsed.other_effects


@pytest.mark.parametrize(
    "statements",
    [
        f"if new.phone is null then v := 'a'; end if; {INSERT}",
        f"if new.phone is null then v := 'a'; elsif v = 'x' then v := 'b'; else v := 'c'; end if; {INSERT}",
        f"if new.phone is null then perform public.make_team(new.id); end if; {INSERT}",
    ],
)
def test_a_condition_around_other_statements_is_described(statements):
    parsed = parse_function(f"declare v text; begin {statements}; return new; end;")
    assert "has a condition that usersync does not know" in parsed.other_effects
    assert "acts only under a condition that usersync does not know" not in parsed.other_effects


@pytest.mark.parametrize(
    "statements",
    [
        f"if new.phone is null then v := 'a'; end if; if new.email like '%x' then {INSERT}; end if",
        f"if new.email like '%x' then v := 'a'; else {INSERT}; end if",
        f"if new.email like '%x' then begin {INSERT}; end; end if",
    ],
)
def test_a_condition_that_includes_the_insert_is_described_once(statements):
    parsed = parse_function(f"declare v text; begin {statements}; return new; end;")
    assert parsed.other_effects == ("acts only under a condition that usersync does not know",)


NAME = "new.raw_user_meta_data->>'name'"
CHOICES = {
    f"if {NAME} is not null then v := {NAME}; end if; "
    "if v is null and new.email is not null then v := split_part(new.email, '@', 1); end if; "
    "if v is null then v := ''; end if;": Value(
        expression="coalesce(raw_user_meta_data ->> 'name', split_part(email, '@', 1), '')"
    ),
    f"if ({NAME}) is not null then v := {NAME}; else v := null; end if;": Value(("user_metadata.name",)),
    f"if {NAME} is not null then v := {NAME}; else v := new.email; end if;": Value(
        ("user_metadata.name", "email")
    ),
    f"v := {NAME}; if v is null then v := 'x'; end if;": Value(("user_metadata.name",), "x"),
}


@pytest.mark.parametrize("statements", CHOICES)
def test_an_if_that_chooses_a_value_becomes_coalesce(statements):
    parsed = parse_function(
        f"declare v text; begin {statements} insert into users (x) values (v); return new; end;"
    )
    assert parsed.other_effects == ()
    assert parsed.writes[0].values["x"] == CHOICES[statements]


@pytest.mark.parametrize(
    "statements",
    [
        # Not null for a user without an e-mail address, so COALESCE would give another value.
        "if v is null and new.email is not null then v := 'x'; end if;",
        "if v is null and new.email is not null then v := split_part(new.phone, '@', 1); end if;",
        f"if new.email is not null then v := {NAME}; end if;",
        f"if {NAME} is not null then v := {NAME}; else w := ''; end if;",
        f"if {NAME} is not null then v := {NAME}; w := ''; end if;",
        "if v is null or new.phone is null then v := ''; end if;",
        "if w is null then v := ''; end if;",
        "if v is null then v := 'x'; elsif w is null then v := 'y'; end if;",
    ],
)
def test_an_if_with_another_condition_is_not_parsed(statements):
    parsed = parse_function(
        f"declare v text; w text; begin {statements} insert into users (x) values (v); return new; end;"
    )
    assert parsed.other_effects
    assert parsed.writes[0].values["x"] is None


def test_columns_that_are_set_on_new_are_found():
    parsed = parse(
        "new.raw_user_meta_data = coalesce(new.raw_user_meta_data, '{}') || '{\"a\": 1}'; new.role := 'x'"
    )
    assert parsed.sets == ("raw_user_meta_data", "role")
    assert parsed.other_effects == ()
