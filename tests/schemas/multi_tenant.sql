-- Tenants, and users who belong to one. Who belongs where is in app_metadata, which the INSERT does not have yet.
create table public.tenants (id uuid primary key default gen_random_uuid(), name text not null);
insert into public.tenants values ('11111111-1111-4111-8111-111111111111', 'Acme');
create type public.tenant_role as enum ('owner', 'admin', 'member');
create table public.users (
    id uuid primary key references auth.users (id) on delete cascade,
    tenant_id uuid not null references public.tenants (id) on delete restrict,
    email text not null,
    role public.tenant_role not null default 'member',
    display_name text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (tenant_id, email)
);
create table public.memberships (
    tenant_id uuid not null references public.tenants,
    user_id uuid not null references public.users on delete cascade,
    role public.tenant_role not null default 'member',
    primary key (tenant_id, user_id)
);
create table public.projects (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references public.tenants,
    created_by uuid references public.users (id) on delete set null,
    reviewed_by uuid references public.users (id)
);
alter table public.users enable row level security;
create policy tenant_isolation on public.users using (
    tenant_id = ((auth.jwt() -> 'app_metadata') ->> 'tenant_id')::uuid);

create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = public
as $$
begin
  if new.raw_app_meta_data ? 'tenant_id' then
    insert into users (id, tenant_id, email)
    values (new.id, (new.raw_app_meta_data->>'tenant_id')::uuid, new.email)
    on conflict (id) do nothing;
  end if;
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users
  for each row execute function public.handle_new_user();
