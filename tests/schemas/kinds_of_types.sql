-- Enums, domains, arrays, JSON, generated columns and identities in one table.
create type public.locale as enum ('en', 'de', 'fr');
create domain public.email_address as text check (value ~ '^[^@\s]+@[^@\s]+$');
create domain public.short_text as varchar(80);
create domain public.positive as integer check (value > 0);
create table public.users (
    member_number bigint generated always as identity,
    id uuid primary key default gen_random_uuid(),
    email public.email_address,
    first_name public.short_text,
    last_name public.short_text,
    full_name text generated always as (
        coalesce(first_name::text, '') || ' ' || coalesce(last_name::text, '')) stored,
    locale public.locale not null default 'en',
    providers text[] not null default '{}',
    roles text[],
    age public.positive,
    user_metadata jsonb not null default '{}',
    preferences jsonb not null default '{"theme": "light"}',
    email_confirmed_at timestamptz,
    created_at date
);
comment on column public.users.age is 'From raw_user_meta_data->>''age''';
comment on column public.users.roles is 'app_metadata.roles, set by the back office';
