-- Two tables for each user, filled by one function; an audit log of the application's own.
create table public.users (
    id uuid primary key references auth.users (id) on delete cascade,
    email text not null default '',
    last_sign_in_at timestamptz,
    is_admin boolean not null default false
);
create table public.profiles (
    id uuid primary key references public.users (id) on delete cascade,
    display_name text,
    avatar_url text
);
create table public.audit_logs (
    id bigint generated always as identity primary key, user_id uuid, action text, at timestamptz default now());
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.users (id, email, is_admin)
  values (new.id, coalesce(new.email, ''), coalesce((new.raw_user_meta_data->>'is_admin')::boolean, false))
  on conflict (id) do nothing;
  insert into public.profiles (id, display_name, avatar_url)
  values (new.id, new.raw_user_meta_data->>'name', new.raw_user_meta_data->>'avatar_url')
  on conflict do nothing;
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users
  for each row execute function public.handle_new_user();
