-- Grown before Supabase came: numbers for ids, an auth_id beside them, times without a zone, rows without a login.
create table public.users (
    id bigserial primary key,
    auth_id uuid unique,
    login varchar(40),
    email varchar(255) unique,
    first_name varchar(50) not null default '',
    last_name varchar(50) not null default '',
    status smallint not null default 1,
    created timestamp not null default localtimestamp,
    registered_at timestamp,
    last_login timestamp,
    constraint email_has_at check (email like '%@%')
);
insert into public.users (login, email, first_name) values ('root', 'root@legacy.example.com', 'Root');
create table public.invoices (
    id bigserial primary key,
    user_id bigint not null references public.users (id),
    total numeric(10, 2) not null default 0
);
insert into public.invoices (user_id, total) values (1, 10);
