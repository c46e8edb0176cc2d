-- After `usersync apply`, which makes public.users.
create table public.products (
  id bigint generated always as identity primary key,
  name text not null,
  stock integer not null default 0 check (stock >= 0),
  -- What fails with 23503 where a user who is signed in has no row.
  created_by uuid not null references public.users (id)
);
alter table public.products enable row level security;
