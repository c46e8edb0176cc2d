-- Run it after `usersync apply`, which creates public.users.
create table public.products (
  id bigint generated always as identity primary key,
  name text not null,
  stock integer not null default 0 check (stock >= 0),
  -- Without a row of the user, this foreign key fails (23503).
  created_by uuid not null references public.users (id)
);
alter table public.products enable row level security;
