-- The state of the audit log as one JSON object. Reads the catalog only, as inspect.sql does. Missing objects of a log
-- that usersync created are in two groups: create_audit_table.sql creates the first group again. The second group takes
-- long if there are many events, so an administrator creates it at a suitable time.
select jsonb_build_object(
    -- The table with the log's name, which the application may have created, and the audit log.
    'has_audit_table', to_regclass('@audit_table') is not null,
    'has_audit_log', '@audit_log' is not null,
    'audit_table_created_by_usersync', coalesce(
        obj_description(to_regclass('@audit_table'), 'pg_class') like 'The audit log, made by usersync: %'
        -- A copy of the table may have the comment too.
        and (select relkind = 'p' from pg_class where oid = to_regclass('@audit_table')), false),
    -- usersync's audit logs that were renamed or replaced by another one, and whose partitions are still in its schema.
    'former_audit_logs', (
        select coalesce(jsonb_agg(distinct parent.oid::regclass::text), '[]')
        from pg_inherits
        join pg_class as child on child.oid = inhrelid
        join pg_class as parent on parent.oid = inhparent
        where child.relnamespace = to_regnamespace('usersync') and child.relkind in ('r', 'p')
            and parent.relnamespace <> child.relnamespace and parent.oid is distinct from to_regclass('@audit_table')
    ),
    -- The triggers that note new events of an application's audit table, on whichever table they are.
    'note_triggers', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'name', tgname,
            'table', tgrelid::regclass::text,
            'is_right', tgrelid = to_regclass('@audit_table') and tgname = 'note_events' and tgtype = 4
                and tgqual is null and tgnewtable = 'inserted_events',
            'is_enabled', tgenabled in ('O', 'A')
        ) order by tgrelid), '[]')
        from pg_trigger where tgfoid = to_regprocedure('usersync.note_events()') and not tgisinternal
    ),
    'audit_table_unguarded', (
        select coalesce(jsonb_agg(relid::regclass::text order by relid::regclass::text), '[]')
        from pg_partition_tree(to_regclass('@audit_table'))
        where 2 <> (
            select count(*) from pg_trigger
            where tgrelid = relid and tgenabled in ('O', 'A') and tgqual is null
                and tgfoid = to_regprocedure('usersync.keep_audit_logs()')
                -- One fires before each updated or deleted row, the other before a TRUNCATE.
                and (tgname, tgtype) in (('keep_audit_logs', 27), ('keep_all_audit_logs', 34))
        )
    ),
    'audit_table_partitions', (select count(*) from pg_inherits where inhparent = to_regclass('@audit_table')),
    'audit_table_has_default', exists (
        select from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = to_regclass('@audit_table') and pg_get_expr(relpartbound, pg_class.oid) = 'DEFAULT'
    ),
    'audit_table_grants', (
        select coalesce(jsonb_object_agg(granted.role, granted.privileges), '{}')
        from (
            select
                coalesce(rolname, 'public') as role,
                string_agg(distinct lower(privilege_type), ', ' order by lower(privilege_type)) as privileges
            from (
                select relacl as acl, null::name as column_name from pg_class where oid = to_regclass('@audit_table')
                union all
                select attacl, attname from pg_attribute where attrelid = to_regclass('@audit_table')
            ) as lists
            cross join aclexplode(acl)
            left join pg_roles on pg_roles.oid = grantee
            where grantee in (0, to_regrole('anon'), to_regrole('authenticated'))
                and not (array['@reader_functions']::text[] <> '{}' and grantee = to_regrole('authenticated')
                    and column_name = any(array['@readable_columns']) and privilege_type = 'SELECT')
                or grantee = to_regrole('service_role') and privilege_type <> 'SELECT'
            group by 1
        ) as granted
    ),
    'audit_table_is_closed', (
        select relrowsecurity and (to_regrole('service_role') is null or (
            has_table_privilege('service_role', pg_class.oid, 'SELECT') and exists (
                select from pg_policy
                where polrelid = pg_class.oid and polname = 'Only the service role reads the log'
                    and polroles = array[to_regrole('service_role')::oid] and polcmd = 'r'
            )
        ))
        from pg_class where oid = to_regclass('@audit_table')
    ),
    -- Whether signed-in users read events, exactly if the settings say so.
    'audit_table_readers', (
        select to_regrole('authenticated') is null or (
            select bool_and(case
                when not reader.enabled then pg_policy.oid is null
                else pg_policy.polcmd = 'r' and polroles = array[to_regrole('authenticated')::oid]
                    and obj_description(pg_policy.oid, 'pg_policy') is not distinct from reader.comment
                    and (
                        select bool_and(has_column_privilege('authenticated', log, name, 'SELECT'))
                        from unnest(array['@readable_columns']) as name
                        -- Before the log has its present form.
                        where exists (select from pg_attribute where attrelid = log and attname = name and not attisdropped)
                    )
            end) is true
            from jsonb_to_recordset('@audit_readers') as reader (policy name, comment text, enabled boolean)
            left join pg_policy on polrelid = log and polname = reader.policy
        )
        from (select to_regclass('@audit_table')::oid as log) as given
        where log is not null
    ),
    'audit_table_is_guarded', exists (
        select from pg_depend join pg_rewrite on pg_rewrite.oid = objid
        where classid = 'pg_rewrite'::regclass and refobjid = to_regclass('@audit_table')
            and ev_class = to_regclass('usersync.audit_logs_guard')
    ),
    'audit_table_stray_keys', (
        select coalesce(jsonb_agg(jsonb_build_object('name', conname, 'table', confrelid::regclass::text) order by conname), '[]')
        from pg_constraint
        join pg_attribute on attrelid = conrelid and conkey = array[attnum]
        where conrelid = to_regclass('@audit_table') and contype = 'f' and conparentid = 0 and attname = 'user_id'
            and confrelid is distinct from to_regclass('@users_table')
    ),
    'audit_table_oid', to_regclass('@audit_table')::oid::bigint,
    -- What a log that usersync created lacks of its present form, or has of an earlier one.
    'audit_table_form', (
        select coalesce(jsonb_agg(difference order by place), '[]')
        from (select to_regclass('@audit_table') as log) as given
        cross join lateral (
            select 1 as place, 'new columns' as difference where '@lacks_columns'
            union all
            select 2, 'no CHECK constraints' where exists (
                select from pg_constraint
                where conrelid in (select relid from pg_partition_tree(log)) and contype = 'c'
                    and pg_get_constraintdef(oid) = any(array['@former_checks'])
            )
        ) as differences
    ),
    'audit_table_lost_indexes', (
        select coalesce(jsonb_agg(wanted.definition order by wanted.definition), '[]')
        from (select to_regclass('@audit_table') as log) as given
        cross join unnest(array['@index_columns'], array['@index_definitions']) as wanted (columns, definition)
        where '@parent_index' is null
    ),
    -- The partitions that an index of the log does not have yet.
    'audit_table_pending_indexes', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'partition', relation::text, 'parent', parent_index::text, 'definition', pending.definition,
            'bytes', pg_relation_size(relation)
        ) order by relation::text, pending.definition), '[]')
        from (
            select relid as relation, indexes.definition, parent_index
            from (
                select log, wanted.definition, '@parent_index'::regclass as parent_index
                from (select to_regclass('@audit_table') as log) as given
                cross join unnest(array['@index_columns'], array['@index_definitions']) as wanted (columns, definition)
                -- So that each index is looked up once and not for each partition.
                offset 0
            ) as indexes
            cross join lateral pg_partition_tree(log)
            where isleaf and relid <> log
        ) as pending
        where parent_index is not null and not exists (
            select from pg_inherits join pg_index on indexrelid = inhrelid
            where inhparent = parent_index and indrelid = relation
        )
    ),
    'audit_table', (
        select jsonb_build_object(
            'kind', relkind,
            'columns', (
                select coalesce(jsonb_object_agg(attname, jsonb_build_object(
                    'type', format_type(atttypid, atttypmod),
                    'base_type', format_type(coalesce(nullif(typbasetype, 0), atttypid), null),
                    'string', typcategory = 'S',
                    'longest', case
                        when atttypid in ('varchar'::regtype, 'bpchar'::regtype) and atttypmod > 4 then atttypmod - 4
                    end,
                    'not_null', attnotnull,
                    'required', attnotnull and not atthasdef and attidentity = '',
                    'has_default', atthasdef,
                    'generated', attgenerated <> '' or attidentity = 'a'
                )), '{}')
                from pg_attribute
                join pg_type on pg_type.oid = atttypid
                where attrelid = pg_class.oid and attnum > 0 and not attisdropped
            ),
            'unique_columns', (
                select coalesce(jsonb_agg(attname), '[]')
                from pg_index
                join pg_attribute on attrelid = indrelid and attnum = indkey[0]
                where indrelid = pg_class.oid and indisunique and indimmediate and indisvalid and indpred is null
                    and indexprs is null and indnkeyatts = 1
            ),
            'row_security', relrowsecurity,
            -- What the trigger note_events and its readers need.
            'may_create_triggers', has_table_privilege(pg_class.oid, 'TRIGGER'),
            'hides_rows', relrowsecurity and not (
                (select rolsuper or rolbypassrls from pg_roles where rolname = current_user)
                or not relforcerowsecurity and pg_has_role(relowner, 'USAGE')
            ),
            'foreign_partitions', exists (
                select from pg_partition_tree(pg_class.oid) as part join pg_class as partition on partition.oid = part.relid
                where partition.relkind = 'f'
            ),
            -- The actions that grants, and policies if row-level security is on, allow these roles through the Data
            -- API.
            'reached', (
                select coalesce(jsonb_object_agg(reached.role, reached.actions), '{}')
                from (
                    select rolname as role, string_agg(lower(action), ', ' order by place) as actions
                    from pg_roles
                    cross join (
                        values (1, 'SELECT', 'r'), (2, 'INSERT', 'a'), (3, 'UPDATE', 'w'), (4, 'DELETE', 'd')
                    ) as possible (place, action, command)
                    where rolname in ('anon', 'authenticated')
                        and has_schema_privilege(pg_roles.oid, relnamespace, 'USAGE')
                        and (has_table_privilege(pg_roles.oid, pg_class.oid, action) or case
                            when action <> 'DELETE' then has_any_column_privilege(pg_roles.oid, pg_class.oid, action)
                        end)
                        and (not relrowsecurity or exists (
                            select from pg_policy
                            where polrelid = pg_class.oid and polcmd in ('*', command::"char")
                                and (polroles @> array[0::oid] or polroles @> array[pg_roles.oid])
                        ))
                    group by rolname
                ) as reached
            )
        )
        from pg_class where pg_class.oid = to_regclass('@audit_table')
    )
) as state
