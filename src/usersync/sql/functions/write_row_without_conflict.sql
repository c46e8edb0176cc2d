-- Writes the row of a user whose value in a unique column belongs to another user, as on_conflict says: "null" leaves
-- the column empty, "suffix" appends a part of the user's id, as long as needed. written: whether the row was written.
-- lacking and lacking_for: the column that was left empty, and the constraint.
create or replace function usersync.write_row_without_conflict(
    user_id uuid, failed_constraint text,
    out written boolean, out lacking text, out lacking_for text
)
language plpgsql
set search_path = pg_catalog, "@pinned"
as $usersync$
#variable_conflict use_column
declare
    names text[] := array['@mapped_columns'];
    expressions text[] := array['@mapped_expressions'];
    owners text[] := array['@mapped_owners'];
    policies text[] := array['@mapped_policies'];
    tries integer[] := array_fill(0, array[cardinality(names)]);
    digits integer;
    colliding integer;
    statement text;
    records_events boolean := usersync.records_user_events();
    before record;
begin
    written := false;
    -- As in write_full_rows: locks first and compares afterwards, so that no newer value is overwritten.
    perform from "@source_table" as source where source."id" = write_row_without_conflict.user_id for key share;
    perform from "@users_table" as target where target."@key" = write_row_without_conflict.user_id::"@key_type" for no key update;
    if records_events then
        before := usersync.user_rows(array[user_id], true);
    end if;
    loop
        select subscript into colliding
        from generate_subscripts(names, 1) as subscript
        where names[subscript] = any(usersync.constraint_columns(failed_constraint))
            and owners[subscript] <> 'key'
            and tries[subscript] < case policies[subscript] when 'suffix' then 3 else 1 end
        -- In a unique index of several columns, columns with on_conflict come first. Another column is left empty only
        -- after them: that row has more values than a minimal row.
        order by policies[subscript] = 'degrade', subscript
        limit 1;
        exit when colliding is null;
        tries[colliding] := tries[colliding] + 1;
        if policies[colliding] <> 'suffix' then
            expressions[colliding] := 'null';
            lacking := names[colliding];
            lacking_for := failed_constraint;
        else
            digits := (array[4, 8, 32])[tries[colliding]];
            expressions[colliding] := (
                select format(
                    'left((%s)::text, %s) || ''_'' || left(replace(source."id"::text, ''-'', ''''), %s)',
                    (array['@mapped_expressions'])[colliding],
                    case when width > 0 then greatest(width - digits - 1, 0) else 1 << 20 end,
                    digits
                )
                from (
                    select coalesce(nullif(atttypmod, -1), typtypmod) - 4 as width
                    from pg_attribute
                    join pg_type on pg_type.oid = atttypid
                    where attrelid = '@users_table'::regclass and attname = names[colliding]
                ) as target_column
            );
        end if;
        begin
            execute (
                select format(
                    'insert into %s (%s) select %s from %s as source where source."id" = $1 '
                    'and source."deleted_at" is null '
                    'and (select true from %1$s as target where %6$s) is null '
                    'on conflict (%5$I) do nothing',
                    '@users_table', string_agg(quote_ident(names[subscript]), ', '),
                    string_agg(expressions[subscript], ', '), '@source_table', '@key', '@is_row_of_source'
                )
                from generate_subscripts(names, 1) as subscript
            ) using user_id;
            -- App-owned columns were written when the row was created.
            select format(
                'update %s as target set (%s) = (select %s from %s as source where source."id" = $1) '
                'where %s and (select row(%s)::text is distinct from row(%s)::text from %4$s as source '
                'where source."id" = $1 and source."deleted_at" is null)',
                '@users_table',
                string_agg(quote_ident(attname), ', '),
                string_agg(expressions[subscript], ', '),
                '@source_table',
                '@is_row_of_given',
                string_agg(format('target.%I', attname), ', '),
                string_agg(format('(%s)::%s', expressions[subscript], format_type(atttypid, atttypmod)), ', ')
            )
            into statement
            from generate_subscripts(names, 1) as subscript
            join pg_attribute on attrelid = '@users_table'::regclass and attname = names[subscript]
            where owners[subscript] = 'auth'
            having count(*) > 0;
            if statement is not null then
                execute statement using user_id;
            end if;
            perform usersync.check_deferred_constraints();
            if records_events then
                perform usersync.record_row_changes(
                    array[user_id], before.user_ids, before.stored,
                    case when lacking is not null then jsonb '{"degraded": true}' end,
                    current_setting('usersync.fired_by', true), false);
            end if;
            written := true;
            return;
        exception when unique_violation then
            get stacked diagnostics failed_constraint = constraint_name;
        end;
    end loop;
exception when others or assert_failure then
    written := false;  -- The failures table gets the first error.
end;
$usersync$;
comment on function usersync.write_row_without_conflict(uuid, text) is
    'usersync: writes the row of a user with a duplicate value in a unique column, as on_conflict says.';
