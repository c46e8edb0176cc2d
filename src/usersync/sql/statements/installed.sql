-- The recorded installation: migrations, functions and settings.
select jsonb_build_object(
    'migrations', (
        select coalesce(jsonb_object_agg(applied.version, applied.checksum), '{}')
        from usersync.schema_version as applied
    ),
    'functions', (
        select coalesce(jsonb_object_agg(installed.signature, jsonb_build_object(
            'checksum', installed.checksum, 'fingerprint', installed.fingerprint
        )), '{}')
        from usersync.functions as installed
    ),
    'settings', (select only_row.settings from usersync.settings as only_row)
) as noted
