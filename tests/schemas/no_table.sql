-- A new project: nothing but the application's own things.
create table public.todos (
    id bigint generated always as identity primary key,
    user_id uuid references auth.users on delete cascade,
    task text
);
