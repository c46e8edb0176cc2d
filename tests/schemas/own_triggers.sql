-- A users table with a life of its own: a slug, a time of change, an audit in the style of supa_audit, which finds
-- its helpers by the search path, and a constraint that is checked at COMMIT.
create schema audit;
create function public.uuid_of(name text) returns uuid language sql immutable as $$ select md5(name)::uuid $$;
create table audit.record_version (
    id bigint generated always as identity primary key, record_id uuid, op text, record jsonb, ts timestamptz default now());
create function audit.to_record_id(entity oid, rec jsonb) returns uuid language sql stable as
  $$ select uuid_of(entity::text || (rec ->> 'id')) $$;
create function audit.insert_update_delete_trigger() returns trigger language plpgsql security definer as $$
begin
  insert into audit.record_version (record_id, op, record)
  values (audit.to_record_id(tg_relid, to_jsonb(coalesce(new, old))), tg_op, to_jsonb(new));
  return coalesce(new, old);
end $$;

create table public.users (
    id uuid primary key references auth.users (id) on delete cascade,
    email text,
    full_name text,
    slug text,
    updated_at timestamptz not null default now(),
    constraint one_slug_each unique (slug) deferrable initially deferred
);
create function public.make_slug() returns trigger language plpgsql as $$
begin
  new.slug := coalesce(new.slug, regexp_replace(lower(coalesce(new.full_name, 'user')), '\W+', '-', 'g')
    || '-' || left(new.id::text, 8));
  return new;
end $$;
create function public.touch() returns trigger language plpgsql as
  $$ begin new.updated_at = now(); return new; end $$;
create trigger a_make_slug before insert on public.users for each row execute function public.make_slug();
create trigger b_touch before update on public.users for each row execute function public.touch();
create trigger audit_i_u_d after insert or update or delete on public.users
  for each row execute function audit.insert_update_delete_trigger();
create table public.posts (id bigint generated always as identity primary key,
    author_id uuid references public.users (id) on delete cascade, editor_id uuid references auth.users (id));
