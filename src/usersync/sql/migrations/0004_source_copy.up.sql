-- Makes room for a copy of the auth server's table, for an auth server that keeps its users in another database: what
-- its admin API says of a user, under the names of its own columns. "usersync sync --from-api" fills it, where
-- source_table names it; elsewhere it stays empty.

create table if not exists usersync.auth_users (
    id uuid primary key,
    aud text,
    role text,
    email text,
    email_confirmed_at timestamptz,
    invited_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    phone text,
    phone_confirmed_at timestamptz,
    confirmed_at timestamptz,
    banned_until timestamptz,
    deleted_at timestamptz,
    is_anonymous boolean not null default false,
    seen_at timestamptz not null default now()
);
comment on table usersync.auth_users is
    'A copy of the auth server''s users, as its admin API told them; seen_at is when it last did.';
