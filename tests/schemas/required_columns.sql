-- Columns that refuse null and that the auth server knows nothing of.
create table public.countries (code char(2) primary key);
insert into public.countries values ('DE'), ('FR');
create type public.account_tier as enum ('free', 'pro');
create table public.users (
    id uuid primary key,
    email text not null unique,
    name text not null,
    country char(2) not null references public.countries (code),
    tier public.account_tier not null,
    terms_accepted_at timestamptz not null,
    referral_code text not null unique,
    newsletter boolean not null default false
);
create table public.sessions_log (id bigint generated always as identity primary key, user_id uuid references public.users);
