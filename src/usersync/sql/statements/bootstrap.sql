create schema if not exists usersync;
comment on schema usersync is
    'usersync: keeps the application''s users in sync with the auth server''s. Not for the Data API.';

create table if not exists usersync.schema_version (
    version integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table usersync.schema_version is 'The applied migrations with their checksums.';

create table if not exists usersync.functions (
    signature text primary key,
    checksum text not null,
    fingerprint text not null,
    installed_at timestamptz not null default now()
);
comment on table usersync.functions is
    'The installed functions: the checksum of the text, and the fingerprint of the function in the catalog.';
