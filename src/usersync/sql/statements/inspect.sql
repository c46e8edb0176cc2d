-- The state of the database as one JSON object. Reads the catalog only, so that it works before the installation and
-- for a role without other privileges.
select jsonb_build_object(
    'server_version', current_setting('server_version_num')::integer,
    'role', current_user,
    -- Not transaction_read_only: this query runs in a read-only transaction.
    'read_only', case
        when pg_is_in_recovery() then 'standby'
        when current_setting('default_transaction_read_only')::boolean then 'setting'
    end,
    -- Only tables of a role that this role is a member of. Reading another role's view would run that role's code.
    'installed', 3 = (
        select count(*) from pg_class
        where relnamespace = to_regnamespace('usersync') and relkind = 'r' and pg_has_role(relowner, 'USAGE')
            and relname in ('schema_version', 'functions', 'settings')
    ),
    'installed_tables', (
        select coalesce(jsonb_agg('usersync.' || relname order by relname), '[]') from pg_class
        where relnamespace = to_regnamespace('usersync') and relkind = 'r'
    ),
    'unlogged', (
        select coalesce(jsonb_agg(pg_class.oid::regclass::text order by pg_class.oid::regclass::text), '[]') from pg_class
        where relpersistence = 'u' and relkind in ('r', 'p') and (
            relnamespace = to_regnamespace('usersync')
            or pg_class.oid in (to_regclass('@users_table'), '@audit_log')
        )
    ),
    'exhausted_sequences', (
        select coalesce(jsonb_agg(format('%I.%I', schemaname, sequencename) order by sequencename), '[]')
        from pg_sequences
        where schemaname = 'usersync' and not cycle and max_value - coalesce(last_value, 0) < 1000
    ),
    'installed_types', (
        select coalesce(jsonb_agg('usersync.' || typname order by typname), '[]') from pg_type
        where typnamespace = to_regnamespace('usersync') and typtype = 'c'
    ),
    'has_schema', to_regnamespace('usersync') is not null,
    'has_users_schema', to_regnamespace('@users_schema') is not null,
    'other_tables', (
        select coalesce(jsonb_agg(others.name), '[]') from (
            select nspname || '.' || relname as name
            from pg_class
            join pg_namespace on pg_namespace.oid = relnamespace
            where relkind in ('r', 'p') and not relispartition
                and nspname !~ '^(pg_|information_schema$|auth$|storage$|realtime$|vault$|usersync$|supabase)'
            order by 1 limit 500
        ) as others
    ),
    'users_trigger_makers', (
        select coalesce(jsonb_agg(rolname order by rolname), '[]') from pg_roles
        where rolname in ('anon', 'authenticated', 'service_role') and to_regclass('@users_table') is not null
            and has_table_privilege(oid, to_regclass('@users_table'), 'TRIGGER')
    ),
    'missing_types', (
        select coalesce(jsonb_agg(wanted.name), '[]')
        from jsonb_array_elements_text('@types'::jsonb) as wanted (name)
        where to_regtype(wanted.name) is null
    ),
    'source_columns', (
        select jsonb_agg(attname) from pg_attribute
        where attrelid = to_regclass('@source_table') and attnum > 0 and not attisdropped
    ),
    'source_triggers', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'name', tgname, 'type', tgtype, 'enabled', tgenabled, 'function', nspname || '.' || proname,
            'ours', coalesce(obj_description(pg_proc.oid, 'pg_proc') like 'usersync: %', false),
            'plain', tgattr::text = '' and tgqual is null and tgnargs = 0 and not tgdeferrable,
            'is_constraint', tgconstraint <> 0,
            'definition', pg_get_triggerdef(pg_trigger.oid),
            'language', lanname,
            'body', prosrc,
            -- Restoring a trigger creates it, which requires EXECUTE on its function.
            'executable', has_function_privilege(pg_proc.oid, 'EXECUTE')
        ) order by tgname), '[]')
        from pg_trigger
        join pg_proc on pg_proc.oid = tgfoid
        join pg_namespace on pg_namespace.oid = pronamespace
        join pg_language on pg_language.oid = prolang
        where tgrelid = to_regclass('@source_table') and not tgisinternal
    ),
    'users_kind', (select relkind from pg_class where oid = to_regclass('@users_table')),
    'users_created_by_usersync', obj_description(to_regclass('@users_table'), 'pg_class')
        like 'The application''s users, created by usersync %',
    -- Privileges that row-level security does not restrict, and that a REVOKE by the owner removes.
    'users_granted_beyond_rows', (
        select coalesce(jsonb_agg(distinct case grantee when 0 then 'public' else quote_ident(rolname) end), '[]')
        from pg_class
        cross join aclexplode(relacl) as granted
        left join pg_roles on pg_roles.oid = grantee
        where pg_class.oid = to_regclass('@users_table') and pg_has_role(relowner, 'USAGE') and grantor = relowner
            and privilege_type in ('TRIGGER', 'REFERENCES', 'TRUNCATE')
            and (grantee = 0 or rolname in ('anon', 'authenticated', 'service_role'))
    ),
    'users_columns', (
        select coalesce(jsonb_object_agg(attname, jsonb_build_object(
            'type', format_type(atttypid, atttypmod),
            'string', typcategory = 'S',
            'required', attnotnull and not atthasdef and attidentity = '',
            'refuses_null', attnotnull or typnotnull,
            'generated', attgenerated <> '' or attidentity = 'a',
            'default', pg_get_expr(adbin, adrelid)
        )), '{}')
        from pg_attribute
        join pg_type on pg_type.oid = atttypid
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attrelid = to_regclass('@users_table') and attnum > 0 and not attisdropped
    ),
    'key_is_unique', exists (
        select from pg_index
        where indrelid = to_regclass('@users_table') and indisunique and indimmediate and indpred is null
            and indexprs is null and indnkeyatts = 1
            and indkey[0] = (
                select attnum from pg_attribute
                where attrelid = to_regclass('@users_table') and attname = '@key' and not attisdropped
            )
    ),
    'users_primary_key', array(
        select attname::text
        from pg_index
        join pg_attribute on attrelid = indrelid and attnum = any(indkey)
        where indrelid = to_regclass('@users_table') and indisprimary
        order by attname
    ),
    -- The columns of unique indexes on one column and without a WHERE clause, the key included.
    'users_unique_columns', array(
        select distinct attname::text
        from pg_index
        join pg_attribute on attrelid = indrelid and attnum = indkey[0]
        where indrelid = to_regclass('@users_table') and indisunique and indisvalid and indnkeyatts = 1
            and indpred is null
        order by attname
    ),
    'users_triggers', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'name', tgname, 'type', tgtype, 'enabled', tgenabled, 'function', nspname || '.' || proname,
            'definition', pg_get_triggerdef(pg_trigger.oid), 'language', lanname, 'body', prosrc
        ) order by tgname), '[]')
        from pg_trigger
        join pg_proc on pg_proc.oid = tgfoid
        join pg_namespace on pg_namespace.oid = pronamespace
        join pg_language on pg_language.oid = prolang
        where tgrelid = to_regclass('@users_table') and not tgisinternal
    ),
    'users_rules', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'name', rulename,
            'event', case ev_type when '2' then 'UPDATE' when '3' then 'INSERT' else 'DELETE' end,
            'definition', pg_get_ruledef(oid, true)
        ) order by rulename), '[]')
        from pg_rewrite
        where ev_class = to_regclass('@users_table') and ev_type <> '1' and ev_enabled <> 'D'
    ),
    'functions', (
        select coalesce(jsonb_object_agg(
            format('%I.%I(%s)', nspname, proname, oidvectortypes(proargtypes)),
            md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
        ), '{}')
        from pg_proc
        join pg_namespace on pg_namespace.oid = pronamespace
        -- The first condition is cheap. PostgreSQL would read the comments of its 3,000 functions without it.
        where pronamespace = any(array(select oid from pg_namespace where nspname in ('usersync', 'public')))
            and obj_description(pg_proc.oid, 'pg_proc') like 'usersync: %'
            -- Any role can write such a comment on its own function.
            and (nspname = 'usersync' or nspname = 'public'
                and proname in ('@all_public_functions'))
            and proowner in (
                quote_ident(current_user)::regrole, (select nspowner from pg_namespace where nspname = 'usersync'))
    )
) as state
