-- The application of the demo: products with a stock, and an audit log of who changed it.
create table public.users (
    id uuid primary key,
    email text,
    full_name text,
    is_anonymous boolean,
    deleted_at timestamptz
);
create table public.products (
    id integer primary key,
    name text not null,
    stock integer not null check (stock >= 0)
);
create table public.audit_logs (
    id bigint generated always as identity primary key,
    user_id uuid not null references public.users (id),
    action text not null,
    detail text not null
);
insert into public.products values (1, 'bolt M8', 10);
