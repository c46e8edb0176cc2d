-- Writes users that the auth server's admin API has listed into the copy of its table, whose triggers sync them. A
-- newer version of a user stays. Returns the number of written rows.
create or replace function usersync.receive_users(users jsonb, seen_at timestamptz) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    written bigint;
begin
    if '@source_table'::regclass is distinct from to_regclass('usersync.auth_users') then
        raise exception 'users from the admin API cannot be stored: source_table is %, which is no copy', '@source_table'::regclass
            using errcode = 'US101', hint = 'If the auth server has its own database, set source_table = '
                '"usersync.auth_users" and run: usersync apply';
    end if;
    update usersync.auth_users as stored set seen_at = receive_users.seen_at
    where stored.id in (select (told.one ->> 'id')::uuid from jsonb_array_elements(users) as told (one))
        and stored.seen_at < receive_users.seen_at;
    insert into usersync.auth_users as stored (
        id, aud, role, email, email_confirmed_at, invited_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data,
        created_at, updated_at, phone, phone_confirmed_at, confirmed_at, banned_until, deleted_at, is_anonymous, seen_at
    )
    select distinct on (told.id)
        told.id, nullif(told.aud, ''), nullif(told.role, ''), nullif(told.email, ''), told.email_confirmed_at,
        told.invited_at, told.last_sign_in_at, told.app_metadata, told.user_metadata, told.created_at,
        told.updated_at, nullif(told.phone, ''), told.phone_confirmed_at, told.confirmed_at, told.banned_until,
        told.deleted_at, coalesce(told.is_anonymous, false), receive_users.seen_at
    from jsonb_to_recordset(users) as told (
        id uuid, aud text, role text, email text, email_confirmed_at timestamptz, invited_at timestamptz,
        last_sign_in_at timestamptz, app_metadata jsonb, user_metadata jsonb, created_at timestamptz,
        updated_at timestamptz, phone text, phone_confirmed_at timestamptz, confirmed_at timestamptz,
        banned_until timestamptz, deleted_at timestamptz, is_anonymous boolean
    )
    order by told.id, told.updated_at desc nulls last
    on conflict (id) do update set
        aud = excluded.aud,
        role = excluded.role,
        email = excluded.email,
        email_confirmed_at = excluded.email_confirmed_at,
        invited_at = excluded.invited_at,
        last_sign_in_at = excluded.last_sign_in_at,
        raw_app_meta_data = excluded.raw_app_meta_data,
        raw_user_meta_data = excluded.raw_user_meta_data,
        created_at = excluded.created_at,
        updated_at = excluded.updated_at,
        phone = excluded.phone,
        phone_confirmed_at = excluded.phone_confirmed_at,
        confirmed_at = excluded.confirmed_at,
        banned_until = excluded.banned_until,
        deleted_at = excluded.deleted_at,
        is_anonymous = excluded.is_anonymous
    where (stored.updated_at is null or excluded.updated_at >= stored.updated_at)
        and to_jsonb(stored) - 'seen_at' is distinct from to_jsonb(excluded) - 'seen_at';
    get diagnostics written = row_count;
    return written;
end;
$usersync$;
comment on function usersync.receive_users(jsonb, timestamp with time zone) is
    'usersync: writes users from the admin API into the copy of the auth server''s table.';
