-- Everybody has a username, unique whatever its case, and it looks like one.
create schema social;
create table social.profiles (
    user_id uuid primary key references auth.users (id) on delete cascade,
    username text not null,
    bio text default '',
    avatar_url text,
    is_private boolean not null default false,
    constraint username_looks_like_one check (username ~ '^[A-Za-z0-9_]{3,40}$')
);
create unique index profiles_username_key on social.profiles (lower(username));
create table social.follows (
    follower uuid references social.profiles on delete cascade,
    followed uuid references social.profiles on delete cascade,
    primary key (follower, followed)
);
create function social.make_profile() returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  insert into social.profiles (user_id, username, avatar_url)
  values (
    new.id,
    coalesce(new.raw_user_meta_data->>'user_name', 'user_' || left(new.id::text, 8)),
    new.raw_user_meta_data->>'avatar_url'
  );
  return new;
exception when others then
  raise warning 'no profile for %', new.id;
  return new;
end $$;
create trigger make_profile after insert on auth.users for each row execute function social.make_profile();
