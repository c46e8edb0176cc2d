-- As Prisma and Drizzle make it where the application takes over the auth server's id: as text.
create table public."User" (
    "id" text not null,
    "email" text not null,
    "name" text,
    "createdAt" timestamp(3) without time zone not null default current_timestamp,
    "updatedAt" timestamp(3) without time zone not null default current_timestamp,
    constraint "User_pkey" primary key ("id")
);
create unique index "User_email_key" on public."User" ("email");
create table public."Workspace" (
    "id" text not null primary key default gen_random_uuid(),
    "ownerId" text not null references public."User" ("id") on delete cascade on update cascade
);
create table public."Session" (
    "id" varchar(25) primary key,
    "userId" text references public."User" ("id") on delete set null on update cascade
);
-- A person of before the auth server, with an id of Prisma's own.
insert into public."User" ("id", "email", "name") values ('clx0a1b2c3d4e5f6g7h8i9j0k', 'bot@example.com', 'Bot');
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    insert into public."User" ("id", "email", "name")
    values (new.id::text, new.email, new.raw_user_meta_data ->> 'full_name');
    return new;
end;
$$;
create trigger on_auth_user_created after insert on auth.users
    for each row execute function public.handle_new_user();
