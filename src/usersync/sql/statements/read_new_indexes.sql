-- Reads once through each new index of usersync's tables and its log. Otherwise Supabase's performance advisor reports
-- all of them as unused (unused_index), until the first search has used them.
do $usersync$
declare
    log constant regclass := '@audit_log';
    is_own_log constant boolean := coalesce(
        obj_description(log, 'pg_class') like 'The audit log, made by usersync: %', false);
    before constant jsonb := jsonb_object_agg(name, current_setting(name)) from unnest(array[
        'enable_seqscan', 'enable_sort', 'enable_bitmapscan']) as name;
    index record;
begin
    perform set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true);
    for index in
        select
            relation.oid::regclass as relation,
            method.amname as method,
            coalesce(pg_get_expr(info.indpred, info.indrelid), 'true') as condition,
            (
                select string_agg(quote_ident(attname), ', ' order by place)
                from unnest(info.indkey) with ordinality as key (number, place)
                join pg_attribute on attrelid = info.indrelid and attnum = number
            ) as columns
        from pg_index as info
        join pg_class as relation on relation.oid = info.indrelid and relation.relkind = 'r'
        join pg_class as own on own.oid = info.indexrelid
        join pg_am as method on method.oid = own.relam
        where not info.indisunique and info.indisvalid and pg_relation_size(relation.oid) = 0
            and (
                relation.relnamespace = to_regnamespace('usersync')
                or (is_own_log and relation.oid in (select relid from pg_partition_tree(log)))
            )
    loop
        perform set_config('enable_bitmapscan', case index.method when 'brin' then 'on' else 'off' end, true);
        execute format(
            case index.method
                when 'brin' then 'select from %1$s where recorded_at = ''infinity'''
                else 'select from %1$s where %2$s order by %3$s limit 1'
            end, index.relation, index.condition, index.columns);
    end loop;
    perform set_config(name, value, true) from jsonb_each_text(before) as each (name, value);
exception when others then
    -- For instance, the log has another owner. The installation does not depend on it.
    raise debug 'usersync: the new indexes were not read: % %', sqlstate, sqlerrm;
end;
$usersync$;
