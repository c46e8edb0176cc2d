-- An inventory: products, each movement of their stock, and an audit log.
create table public.users (
    id uuid primary key,
    email text,
    full_name text,
    is_anonymous boolean,
    deleted_at timestamptz
);

create table public.products (
    id integer generated always as identity primary key,
    name text not null unique,
    stock integer not null check (stock >= 0)
);

create table public.stock_movements (
    id bigint generated always as identity primary key,
    product_id integer not null references public.products (id) on delete cascade,
    quantity integer not null check (quantity <> 0),
    moved_at timestamptz not null default now()
);

-- A hand-written audit table with a foreign key to the application's own users, as many applications have.
create table public.audit_logs (
    id uuid primary key default gen_random_uuid(),
    created_at timestamptz not null default now(),
    user_id uuid references public.users (id),
    action text not null,
    entity_type text,
    entity_id text,
    changes jsonb,
    metadata jsonb not null default '{}'
);
