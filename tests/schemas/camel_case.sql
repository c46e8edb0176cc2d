-- As Prisma makes it: names in camel case, times of three digits, ids of its own.
create type public."Role" as enum ('USER', 'ADMIN');
create table public."User" (
    "id" text not null default 'c' || substr(md5(random()::text), 1, 24),
    "authId" uuid not null,
    "email" text,
    "fullName" text,
    "avatarUrl" text,
    "role" public."Role" not null default 'USER',
    "createdAt" timestamp(3) without time zone not null default current_timestamp,
    "updatedAt" timestamp(3) without time zone not null default current_timestamp,
    constraint "User_pkey" primary key ("id")
);
create unique index "User_authId_key" on public."User" ("authId");
create unique index "User_email_key" on public."User" ("email");
create table public."Post" (
    "id" text not null primary key,
    "authorId" text not null references public."User" ("id") on delete restrict on update cascade
);
create table public."_prisma_migrations" (id varchar(36) primary key, migration_name varchar(255) not null);
