-- How many events each worker is handling, by the name of the subscription.

-- Null: a worker of an earlier release, which does not say it.
alter table usersync.workers add column if not exists in_flight jsonb;
comment on column usersync.workers.in_flight is
    'By subscription: the events that the worker had started, without a stored result, when it last renewed its leases.';
