-- The position of this database: the id of the installation, the system identifier of the cluster with the database's
-- OID, the timeline. A restored copy has the same installation in another cluster. A promoted standby and a
-- point-in-time recovery have another timeline. pg_control_checkpoint() shows the old timeline for some seconds after a
-- promotion, so it is not used.
create or replace function usersync.database_position() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return concat_ws(
        ' ',
        coalesce((select only_row.installation::text from usersync.settings as only_row), '-'),
        (
            select concat(control.system_identifier, '/', this.oid)
            from pg_control_system() as control, pg_database as this
            where this.datname = current_database()
        ),
        case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end
    );
end;
$usersync$;
comment on function usersync.database_position() is
    'usersync: the installation, the cluster and the timeline of this database.';
