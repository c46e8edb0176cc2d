-- Gives a log that usersync created its present form: columns, defaults, indexes, no CHECK constraints. Changes the
-- catalog only, so the time does not depend on the number of events: no partition is rewritten or read, except for
-- indexes of small partitions. Locks the log for some milliseconds. apply creates the indexes of large partitions
-- afterwards, concurrently. Does nothing if nothing is missing.
do $usersync$
declare
    log regclass := '@audit_log';
    relation regclass;
    found_name name;
    wanted record;
    parent_index regclass;
    partition_index regclass;
    -- A new log, or one of the first form, gets all indexes. One that was dropped later stays dropped.
    gets_indexes boolean := '@lacks_columns';
    -- The bytes of partitions that are read under the lock, for indexes.
    budget bigint := 64 * 1024 * 1024;
begin
    if coalesce(obj_description(log, 'pg_class'), '') not like 'The audit log, made by usersync: %'
        or (select relkind <> 'p' from pg_class where oid = log)
    then
        return;
    end if;

    select attname into found_name from pg_attribute
    where attrelid = log and not attisdropped and attname = any(array['@added_columns'])
        and (atttypid <> case when attname in ('xid', 'seq') then 'bigint'::regtype else 'text'::regtype end
            or attgenerated <> '' or attnotnull and not atthasdef);
    if found then
        raise exception 'the audit log % already has another column %', log, found_name
            using errcode = 'duplicate_column',
                hint = format('Rename that column first: alter table %s rename column %I to ...', log, found_name);
    end if;
    if '@lacks_columns' then
        alter table "@audit_table"
            add column if not exists tenant_id text collate "C",
            add column if not exists on_behalf_of text collate "C",
            add column if not exists db_role text collate "C",
            add column if not exists traceparent text collate "C",
            add column if not exists severity text collate "C",
            add column if not exists xid bigint,
            add column if not exists seq bigint;
        -- Not with ADD COLUMN, which would rewrite every partition.
        alter table "@audit_table" alter column xid set default pg_current_xact_id()::text::bigint;
        comment on column "@audit_table".tenant_id is 'The customer (organisation) that the event belongs to.';
        comment on column "@audit_table".on_behalf_of is
            'The user as whom the actor acted (impersonation). actor_id is the one who really did it.';
        comment on column "@audit_table".db_role is 'The role of the database session, written by the database.';
        comment on column "@audit_table".traceparent is 'The W3C trace context of the request.';
        comment on column "@audit_table".severity is 'info, low, medium, high or critical; null: not rated.';
        comment on column "@audit_table".xid is
            'The transaction that inserted the event, as pg_current_xact_id() says. A bigint, because BRIN indexes '
            'do not support xid8. Has no meaning in another database cluster. Null: stored by an earlier release.';
        comment on column "@audit_table".seq is
            'The order of insertion, with gaps. Null: stored by an earlier release, or by its triggers.';
    end if;

    -- The CHECK constraints of earlier releases; a partition may have them as constraints of its own.
    for relation in select relid from pg_partition_tree(log) order by level, relid loop
        for found_name in
            select conname from pg_constraint
            where conrelid = relation and contype = 'c' and coninhcount = 0
                and pg_get_constraintdef(oid) = any(array['@former_checks'])
        loop
            execute format('alter table %s drop constraint %I', relation, found_name);
        end loop;
    end loop;

    for wanted in
        select * from unnest(array['@index_columns'], array['@index_definitions']) as given (columns, definition)
    loop
        parent_index := '@parent_index';
        continue when parent_index is null and not gets_indexes;
        if parent_index is null then
            execute format('create index on only %s %s', log, wanted.definition);
            parent_index := '@parent_index';
        end if;
        continue when (select indisvalid from pg_index where indexrelid = parent_index);
        for relation in
            select relid from pg_partition_tree(log)
            where isleaf and relid <> log and not exists (
                select from pg_inherits join pg_index on indexrelid = inhrelid
                where inhparent = parent_index and indrelid = relid
            )
        loop
            partition_index := '@partition_index';
            if partition_index is null then
                continue when pg_relation_size(relation) > least(budget, 8 * 1024 * 1024);
                budget := budget - pg_relation_size(relation);
                execute format('create index on %s %s', relation, wanted.definition);
                partition_index := '@partition_index';
            end if;
            execute format('alter index %s attach partition %s', parent_index, partition_index);
        end loop;
    end loop;

    -- The index of earlier releases on recorded_at alone, once the one that replaces it is complete.
    select index.indexrelid into parent_index from pg_index as index
    where index.indrelid = log and '@replaced_index';
    if found then
        execute format('drop index %s', parent_index);
    end if;
end;
$usersync$;
