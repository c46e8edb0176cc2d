-- The application deletes softly itself, in a schema of its own, and an address is unique among those who are there.
create schema app;
create table app.members (
    id uuid primary key,
    email text,
    full_name text,
    deleted_at timestamptz,
    deleted_by uuid references app.members (id),
    created_at timestamptz not null default now()
);
create unique index members_email_key on app.members (email) where deleted_at is null;
create view app.active_members as select id, email, full_name from app.members where deleted_at is null;
create function app.refuse_delete() returns trigger language plpgsql set search_path = '' as
  $$ begin raise exception 'members are deleted softly'; end $$;
create trigger refuse_delete before delete on app.members for each row execute function app.refuse_delete();
create function app.member_signed_up() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into app.members (id, email, full_name)
  values (new.id, new.email, coalesce(new.raw_user_meta_data->>'full_name', new.raw_user_meta_data->>'name'))
  on conflict (id) do update set email = excluded.email;
  return new;
end $$;
create function app.member_left() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  update app.members set deleted_at = now() where id = old.id;
  return old;
end $$;
create trigger member_signed_up after insert or update of email on auth.users
  for each row execute function app.member_signed_up();
create trigger member_left after delete on auth.users for each row execute function app.member_left();
