(
    select body, identity, case
        when '@rows_pair' then position::text
        else concat(row_number() over (partition by identity order by position), ' ', identity)
    end as place
    from (
        select position, body, '@identity' as identity
        from (
            select row_number() over () as position, usersync.fields_of_row(changed_row.*, event.table_id) as body
            from "@rows" as changed_row
        ) as bodies
        cross join (select usersync.current_key(event.table_id, '@key_columns') as key offset 0) as found
    ) as identified
)
