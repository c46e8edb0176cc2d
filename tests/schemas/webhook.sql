-- A database webhook on the profiles, and a welcome mail from the auth server's own table.
create schema net;
create table net.http_request_queue (id bigint generated always as identity, url text, body jsonb);
create function net.http_post(url text, body jsonb default '{}') returns bigint language sql security definer
set search_path = '' as 'insert into net.http_request_queue (url, body) values (url, body) returning id';
create table public.profiles (
    id uuid primary key references auth.users on delete cascade,
    email text,
    name text,
    created_at timestamptz default now()
);
create function public.notify_crm() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  perform net.http_post('https://crm.example.com/hook', to_jsonb(new));
  return new;
end $$;
create trigger notify_crm after insert or update on public.profiles
  for each row execute function public.notify_crm();
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles (id, email, name) values (new.id, new.email, new.raw_user_meta_data->>'name');
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users
  for each row execute function public.handle_new_user();
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  perform net.http_post('https://mail.example.com/welcome', jsonb_build_object('email', new.email));
  return new;
end $$;
create trigger send_welcome after insert on auth.users for each row execute function public.welcome();
