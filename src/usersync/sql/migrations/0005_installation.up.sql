-- Says which installation this is, so that events that wait on a machine find their own database, and no other. A
-- restored copy has the same id. It follows from the cluster and the database, so that rollback and apply keep it.

alter table usersync.settings add column if not exists installation uuid not null
    default pg_catalog.md5((pg_catalog.pg_control_system()).system_identifier::text || '/' || pg_catalog.current_database())::uuid;
comment on column usersync.settings.installation is
    'Which installation this is. A spool of audit events remembers it, and is delivered to no other.';
