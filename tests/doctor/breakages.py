# ruff: noqa: E501 - SQL is easier to read in one line
"""Breakages of a database with usersync that doctor must notice.

Each entry has SQL that a superuser runs, and the check that must fail. ``fixed_by_pasting`` says that all checks pass
after the fixes were pasted. Both counts may only rise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Breakage:
    sql: str
    #: The check that must fail.
    code: str | None
    #: Whether pasting the fix is enough. Otherwise a person must decide, or another role must run it.
    fixed_by_pasting: bool = True


NEXT_MONTH = "(select to_char(now() at time zone 'UTC' + interval '1 month', 'YYYY_MM'))"

BREAKAGES = {
    # Triggers on the auth server's table.
    "a trigger dropped": Breakage("drop trigger on_auth_user_created on auth.users", "D004"),
    "all triggers dropped": Breakage(
        "drop trigger on_auth_user_created on auth.users; drop trigger on_auth_user_updated on auth.users;"
        "drop trigger on_auth_user_deleted on auth.users",
        "D004",
    ),
    "a trigger disabled": Breakage("alter table auth.users disable trigger on_auth_user_updated", "D004"),
    "all triggers disabled": Breakage("alter table auth.users disable trigger user", "D004"),
    "a trigger for replicas only": Breakage(
        "alter table auth.users enable replica trigger on_auth_user_created", "D004"
    ),
    "a trigger before instead of after": Breakage(
        "create or replace trigger on_auth_user_updated before update on auth.users "
        "for each row execute function usersync.handle_updated_user()",
        "D004",
    ),
    # Functions.
    "a function dropped": Breakage("drop function usersync.handle_new_user() cascade", "D006"),
    "a public function dropped": Breakage("drop function public.ensure_user_exists(uuid)", "D006"),
    "a function edited": Breakage(
        "create or replace function usersync.handle_new_user() returns trigger language plpgsql "
        "as 'begin return null; end'",
        "D006",
    ),
    "a search path reset": Breakage("alter function usersync.handle_new_user() reset search_path", "D007"),
    "SECURITY INVOKER": Breakage("alter function usersync.handle_new_user() security invoker", "D007"),
    "a function of another owner": Breakage(
        "alter function usersync.handle_new_user() owner to supabase_admin", "D007"
    ),
    "the schema of another owner": Breakage("alter schema usersync owner to supabase_admin", "D007"),
    "an overload": Breakage(
        "create function public.record_audit_events(text) returns text language sql as 'select $1';"
        "alter function public.record_audit_events(text) owner to postgres",
        "D007",
    ),
    # Tables of usersync.
    "the failures table dropped": Breakage("drop table usersync.sync_failures cascade", "D003"),
    "the rejects table dropped": Breakage("drop table usersync.audit_rejects cascade", "D003"),
    "the runs table dropped": Breakage("drop table usersync.sync_runs cascade", "D003"),
    "a migration that is not recorded": Breakage(
        "delete from usersync.schema_version where version = 1", "D003"
    ),
    "an unlogged failures table": Breakage("alter table usersync.sync_failures set unlogged", "D003"),
    "an exhausted sequence of rejects": Breakage(
        "alter sequence usersync.audit_rejects_reject_id_seq maxvalue 10", "D003"
    ),
    "the type of an event dropped": Breakage("drop type usersync.audit_event", "D003"),
    "settings edited by hand": Breakage(
        """update usersync.settings set settings = settings || '{"on_delete": "keep"}'""", "D020"
    ),
    "invalid settings": Breakage(
        """update usersync.settings set settings = settings || '{"on_delete": "explode"}'""",
        "D020",
        fixed_by_pasting=False,
    ),
    # Privileges.
    "a function for anon": Breakage("grant execute on function public.user_sync_status() to anon", "D009"),
    "a function for public": Breakage(
        "grant execute on function public.ensure_user_exists(uuid) to public", "D009"
    ),
    "the schema for public": Breakage("grant usage on schema usersync to public", "D009"),
    "a column for anon": Breakage("grant update (message) on usersync.sync_failures to anon", "D009"),
    "service_role locked out": Breakage(
        "revoke execute on function public.ensure_user_exists(uuid) from service_role", "D009"
    ),
    "no UPDATE on auth.users": Breakage("revoke update on auth.users from postgres", "D008"),
    "no INSERT on the log": Breakage("revoke insert on public.audit_logs from postgres", "D008"),
    "the log of another owner": Breakage("alter table public.audit_logs owner to supabase_admin", "D008"),
    "no row-level security": Breakage(
        "alter table public.users disable row level security; grant all on public.users to anon",
        "D010",
    ),
    "anon reads users": Breakage("grant select on public.users to anon", "D011"),
    # The users table.
    "the users table dropped": Breakage("drop table public.users cascade", "D012"),
    "the users table renamed": Breakage(
        "alter table public.users rename to people", "D012", fixed_by_pasting=False
    ),
    "the users table is a view": Breakage(
        "alter table public.users rename to people; create view public.users as select * from public.people",
        "D012",
        fixed_by_pasting=False,
    ),
    "a mapped column dropped": Breakage(
        "alter table public.users drop column full_name", "D012", fixed_by_pasting=False
    ),
    "a mapped column renamed": Breakage(
        "alter table public.users rename column email to mail", "D012", fixed_by_pasting=False
    ),
    "a mapped column of another type": Breakage(
        "alter table public.users alter column banned_until type date", "D012", fixed_by_pasting=False
    ),
    "a NOT NULL column without a value": Breakage(
        "alter table public.users add column team text not null default 'x';"
        "alter table public.users alter column team drop default",
        "D012",
    ),
    "a mapped column is NOT NULL": Breakage(
        "alter table public.users alter column full_name set not null", "D012"
    ),
    "no primary key": Breakage(
        "alter table public.audit_logs drop constraint audit_logs_user_id_fkey;"
        "alter table public.orders drop constraint orders_buyer_fkey;"
        "alter table public.users drop constraint users_pkey",
        "D012",
    ),
    "an unlogged users table": Breakage(
        "alter table public.audit_logs drop constraint audit_logs_user_id_fkey;"
        "alter table public.orders drop constraint orders_buyer_fkey;"
        "alter table public.users set unlogged",
        "D003",
    ),
    "a key that blocks the auth server": Breakage(
        "alter table public.users add foreign key (id) references auth.users (id)", "D013"
    ),
    "a deferred constraint": Breakage(
        "alter table public.users add unique (email) deferrable initially deferred", "D014"
    ),
    "a trigger that relies on a search path": Breakage(
        "create table public.seen (at timestamptz); create function public.hook() returns trigger "
        "language plpgsql as 'begin insert into seen values (now()); return new; end';"
        "alter function public.hook() owner to postgres;"
        "create trigger hook before insert on public.users for each row execute function public.hook()",
        "D015",
    ),
    # Users and failures.
    "a row removed": Breakage(
        "delete from public.users where id = (select id from public.users order by id limit 1)", "D017"
    ),
    "users without a row": Breakage(
        "set session_replication_role = replica; insert into auth.users (id, email) "
        "select gen_random_uuid(), 'old' || n || '@example.com' from generate_series(1, 20) as n; reset session_replication_role",
        "D017",
    ),
    "a stale value": Breakage(
        "update public.users set full_name = 'another name'", "D017", fixed_by_pasting=False
    ),
    "half of the auth server's users gone": Breakage(
        "set session_replication_role = replica; delete from auth.users where email < 'b'; "
        "reset session_replication_role",
        "D017",
        fixed_by_pasting=False,
    ),
    "a failure": Breakage(
        "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
        "select id, 'degraded', '23505', 'made up' from auth.users limit 1",
        "D018",
    ),
    "a removal that failed": Breakage(
        "insert into usersync.sync_failures (user_id, kind, outcome, sqlstate, message) "
        "select id, 'removal', 'failed', '23503', 'made up' from auth.users order by email limit 1",
        "D018",
    ),
    "a run that was killed": Breakage(
        "insert into usersync.sync_runs "
        "(run_id, part, part_count, state, next_id, last_id, page_size, started_at, updated_at) "
        "values (gen_random_uuid(), 1, 1, 'running', '00000000-0000-0000-0000-000000000000', "
        "'ffffffff-ffff-ffff-ffff-ffffffffffff', 100, now() - interval '1 day', now() - interval '1 day')",
        "D019",
    ),
    # The whole installation.
    "the schema dropped": Breakage("drop schema usersync cascade", "D002"),
    "the schema dropped, and a hand-written trigger": Breakage(
        "drop schema usersync cascade; create table public.seen (id uuid);"
        "create function public.handle_new_user() returns trigger language plpgsql as "
        "'begin insert into public.users (id) values (new.id); return new; end';"
        "alter function public.handle_new_user() owner to postgres;"
        "create constraint trigger on_auth_user_created after insert on auth.users "
        "deferrable initially deferred for each row execute function public.handle_new_user();"
        "create trigger welcome after insert on public.seen for each row "
        "execute function public.handle_new_user()",
        "D002",
        fixed_by_pasting=False,
    ),
    "a second trigger on a function": Breakage(
        "create trigger again after insert on auth.users for each row execute function usersync.handle_new_user()",
        "D005",
    ),
    "a trigger that fires too early": Breakage(
        "create table public.seats (user_id uuid references public.users on delete cascade);"
        "create function public.seat() returns trigger language plpgsql security definer as "
        "'begin insert into public.seats values (new.id); return new; end';"
        "create trigger a_seat after insert on auth.users for each row execute function public.seat()",
        "D005",
        fixed_by_pasting=False,
    ),
    # The server.
    "no triggers in a session": Breakage(
        "alter role postgres in database {database} set session_replication_role = replica", "D021"
    ),
    "a short time-out": Breakage(
        "alter role supabase_auth_admin in database {database} set statement_timeout = '200ms'", "D022"
    ),
    # The audit log.
    "a log that can be changed": Breakage(
        "alter table public.audit_logs disable trigger keep_audit_logs", "D024"
    ),
    "the log's guard dropped": Breakage("drop view usersync.audit_logs_guard", "D024"),
    "the log dropped": Breakage("drop table public.audit_logs cascade", "D025"),
    "the log's key dropped": Breakage(
        "alter table public.audit_logs drop constraint audit_logs_user_id_fkey;"
        "delete from public.users where email like 'c%'",
        "D025",
    ),
    "an index of the log dropped": Breakage("drop index public.audit_logs_occurred_at_idx", "D025"),
    "a log that is open": Breakage("grant select, insert on public.audit_logs to anon", "D026"),
    "a log without row-level security": Breakage(
        "alter table public.audit_logs disable row level security", "D026"
    ),
    "no default partition": Breakage("drop table usersync.audit_logs_default", "D027"),
    "a month without a partition": Breakage(
        f"do $$ begin execute 'drop table usersync.audit_logs_' || {NEXT_MONTH}; end $$", "D027"
    ),
    "a partition that is not attached": Breakage(
        "do $$ begin execute 'alter table public.audit_logs detach partition usersync.audit_logs_' || "
        f"{NEXT_MONTH}; end $$",
        "D027",
    ),
    "a rejected event": Breakage(
        "insert into usersync.audit_rejects (event, sqlstate, reason) "
        """values ('{"id": "0198c0de-0000-7000-8000-000000000001", "action": ""}', '23514', 'made up')""",
        "D028",
        # It is rejected again.
        fixed_by_pasting=False,
    ),
    "a tracked table altered": Breakage("alter table public.orders add column note text", "D029"),
    "a tracked table's trigger dropped": Breakage(
        "do $$ begin execute (select format('drop trigger %I on public.orders', tgname) from pg_trigger "
        "where tgrelid = 'public.orders'::regclass and tgname like 'usersync%' limit 1); end $$",
        "D029",
    ),
    "a tracked table replaced": Breakage(
        "create table public.orders_new (like public.orders including all);"
        "insert into public.orders_new select * from public.orders; drop table public.orders;"
        "alter table public.orders_new rename to orders",
        "D029",
    ),
    "a tracked table dropped": Breakage("drop table public.orders", "D029", fixed_by_pasting=False),
    # Writing.
    "a read-only database": Breakage(
        "alter role postgres in database {database} set default_transaction_read_only = on", "D036"
    ),
}
