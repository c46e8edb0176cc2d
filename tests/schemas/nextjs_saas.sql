-- In the style of the Next.js starters for subscriptions: users and Stripe's customers beside each other.
create table public.users (
    id uuid references auth.users not null primary key,
    full_name text,
    avatar_url text,
    billing_address jsonb,
    payment_method jsonb
);
alter table public.users enable row level security;
create policy "Can view own user data." on public.users for select using (auth.uid() = id);
create policy "Can update own user data." on public.users for update using (auth.uid() = id);

create function public.handle_new_user() returns trigger as $$
begin
  insert into public.users (id, full_name, avatar_url)
  values (new.id, new.raw_user_meta_data->>'full_name', new.raw_user_meta_data->>'avatar_url');
  return new;
end;
$$ language plpgsql security definer;
create trigger on_auth_user_created after insert on auth.users
  for each row execute procedure public.handle_new_user();

create table public.customers (id uuid references auth.users not null primary key, stripe_customer_id text);
alter table public.customers enable row level security;
create type public.pricing_type as enum ('one_time', 'recurring');
create table public.products (id text primary key, active boolean, name text, metadata jsonb);
create table public.prices (
    id text primary key, product_id text references public.products, type public.pricing_type, unit_amount bigint);
create type public.subscription_status as enum ('trialing', 'active', 'canceled', 'past_due');
create table public.subscriptions (
    id text primary key,
    user_id uuid references auth.users not null,
    status public.subscription_status,
    price_id text references public.prices,
    created timestamptz default timezone('utc'::text, now()) not null
);
