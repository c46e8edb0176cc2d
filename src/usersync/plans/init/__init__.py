"""``usersync init``: looking at a database, and proposing settings for it. Writes nothing.

First :func:`look_for_tables`, then, with one of its choices, :func:`propose`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.errors import ConflictError
from usersync.plans.adoption import users_triggers
from usersync.plans.first_run import is_question, preview
from usersync.plans.gates import gates
from usersync.plans.init.choice import Choice
from usersync.plans.init.columns import Proposed, propose_columns
from usersync.plans.init.observed import Observed, open_questions
from usersync.plans.init.recovered import recovered
from usersync.plans.init.sources import evidence_of
from usersync.plans.init.surroundings import notes_on_users, on_delete_for, on_soft_delete_for, skipped_today
from usersync.plans.init.survey import (
    Fit,
    Key,
    Metadata,
    describe_table,
    sample_metadata,
    try_mapping,
)
from usersync.plans.init.tables import Tables, look_for_tables
from usersync.plans.inspection import find, inspect
from usersync.plans.keys import key_findings
from usersync.plans.strangers import Stranger, strangers
from usersync.settings import Settings, parse_settings
from usersync.sql.render import render_bundle
from usersync.transports.steps import read_only

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.mapping import TableName
    from usersync.models import Finding
    from usersync.schema.trial.observation import Trial
    from usersync.transports.steps import Plan, Row

__all__ = ["Choice", "Proposal", "Proposed", "Tables", "look_for_tables", "propose"]


@dataclass(frozen=True)
class Proposal:
    """Settings for a database, and what was seen on the way to them."""

    #: As :func:`~usersync.settings.parse_settings` reads it.
    data: Mapping[str, Any]
    settings: Settings
    columns: tuple[Proposed, ...]
    #: In words, by the name of the setting.
    remarks: Mapping[str, str]
    #: What only a person can decide, beside what is said at the columns.
    decisions: tuple[str, ...]
    #: What the settings do not change, and is good to know.
    notes: tuple[str, ...]
    #: What plan would say of these settings.
    findings: tuple[Finding, ...]
    #: The users table as it is, and its key; None where there is none.
    about: Mapping[str, Any] | None
    key: Key | None
    strangers: tuple[Stranger, ...]
    #: Those of the users table.
    triggers: tuple[Row, ...]
    metadata: Metadata | None
    fit: Fit | None
    #: What was seen of the auth server's flows, if they were tried.
    trial: Trial | None = None
    #: What the trial leaves open.
    questions: tuple[str, ...] = ()

    @property
    def needs_adoption(self) -> bool:
        """Whether there is something that ``apply --adopt`` would take the place of."""
        adopted = any(each.fixed is None and (each.is_copy or each.has_our_name) for each in self.strangers)
        return adopted or any(row["is_ours"] and row["names"] for row in self.triggers)


def propose(
    source: TableName, chosen: Choice | TableName | None, trial: Trial | None = None
) -> Plan[Proposal]:
    """Propose settings for this table of users; the defaults where there is none yet.

    ``trial`` is what was seen of the auth server's flows, if they were tried.
    """
    if not isinstance(chosen, Choice):
        return (yield from _propose_new(source, chosen))
    data: dict[str, Any] = {"users_table": str(chosen.table)}
    if source != Settings().source_table:
        data["source_table"] = str(source)
    if chosen.key.name != "id":
        data["key"] = chosen.key.name
    data |= _key_type(chosen.key)
    base = parse_settings({**data, "columns": {}})
    about = yield from describe_table(base)
    if about is None:
        raise ConflictError(f"there is no table {chosen.table} any more", hint="Run usersync init again.")
    metadata = yield from sample_metadata(base)
    inspection = yield from inspect(render_bundle(base))
    stored = inspection.noted and inspection.noted["settings"]
    if stored and stored["users_table"] == str(chosen.table):
        data, columns = recovered(stored, about, chosen.key.name)
        data["columns"] = {each.name: dict(each.entry) for each in columns if each.entry is not None}
        data |= _key_type(chosen.key)
        remark = "usersync is installed here, and these are the settings it was set up with."
        return (
            yield from _conclude(
                data, columns, {"users_table": remark, **_key_remark(data)}, about, metadata, key=chosen.key
            )
        )
    found = strangers(base, inspection.catalog)
    observed = Observed(trial, chosen.table)
    evidence = evidence_of(base, found, metadata or Metadata(), inspection.catalog, observed)
    columns = propose_columns(about, chosen.key.name, evidence)
    tombstone = next(
        (each.name for each in columns if each.entry and each.entry.get("from") == ["deleted_at"]), None
    )
    data["on_delete"], remark = on_delete_for(chosen, about, found, observed, tombstone)
    remarks = {"on_delete": remark, **_key_remark(data)}
    soft, remark = on_soft_delete_for(observed, tombstone, evidence.followed)
    if soft != data["on_delete"]:
        data["on_soft_delete"], remarks["on_soft_delete"] = soft, remark
    if skipped := skipped_today(chosen.table, found, observed):
        data["skip"] = list(skipped)
        remarks["skip"] = "As today: these users get no row."
    data["columns"] = {each.name: dict(each.entry) for each in columns if each.entry is not None}
    proposal = yield from _conclude(data, columns, remarks, about, metadata, key=chosen.key)
    return replace(proposal, trial=trial, questions=tuple(open_questions(trial)))


def _key_type(key: Key) -> dict[str, str]:
    """The setting, where it is not the usual one."""
    return {} if key.type.is_uuid else {"key_type": str(key.type)}


def _key_remark(data: Mapping[str, Any]) -> dict[str, str]:
    if "key_type" not in data:
        return {}
    return {
        "key_type": f"The column {data.get('key', 'id')} holds the id as text. Rows with any other text in "
        "it are no users' rows, and stay as they are."
    }


def _propose_new(source: TableName, table: TableName | None) -> Plan[Proposal]:
    data: dict[str, Any] = {"users_table": str(table or Settings().users_table)}
    if source != Settings().source_table:
        data["source_table"] = str(source)
    inspection = yield from inspect(render_bundle(parse_settings({**data, "columns": {}})))
    present = set(inspection.catalog["source_columns"])
    columns = tuple(
        Proposed(each.name, {"from": [str(source) for source in each.sources]}, "")
        for each in Settings().columns
        if all(source.column in present for source in each.sources)
    )
    data["columns"] = {each.name: dict(each.entry or {}) for each in columns}
    remark = "There is no such table: usersync makes it, with these columns."
    return (yield from _conclude(data, columns, {"users_table": remark}, None, None))


def _conclude(
    data: dict[str, Any],
    columns: tuple[Proposed, ...],
    remarks: dict[str, str],
    about: Mapping[str, Any] | None,
    metadata: Metadata | None,
    *,
    key: Key | None = None,
) -> Plan[Proposal]:
    """Look at the database again with the settings proposed, as plan would."""
    settings = parse_settings(data)
    bundle = render_bundle(settings)
    inspection = yield from inspect(bundle)
    if inspection.catalog["has_audit_table"] and not inspection.catalog["audit_table_created_by_usersync"]:
        data = {**data, "audit": {"table": "public.audit_events"}}
        remarks["audit"] = (
            f"{settings.audit_table} is your application's, so the log gets a table of its own. To use yours "
            "instead, name it here, and its columns in [audit.columns]."
        )
        settings = parse_settings(data)
        bundle = render_bundle(settings)
        inspection = yield from inspect(bundle)
    findings = find(settings, inspection, adopt=True)
    fit = (yield from try_mapping(settings)) if about and about["is_ours"] else None
    first_run = (yield from read_only(preview(settings, bundle, inspection))) if fit else None
    triggers = (yield from users_triggers(bundle)) if about else ()
    gated = (yield from read_only(gates(settings, inspection))) if about else ()
    has_errors = any(each.level == "error" for each in findings)
    keyed = (yield from read_only(key_findings(settings))) if about and not has_errors else ()
    findings = (*findings, *keyed, *gated)
    open_ones = [each for each in findings if each.level == "error" or each in gated]
    errors = tuple(map(_sentence, open_ones))
    if first_run and not any(each.level == "error" for each in findings):
        findings = (*findings, first_run)
        errors += (_sentence(first_run),) if is_question(first_run) else ()
    notes = tuple(notes_on_users(settings, about, metadata, fit)) if about else ()
    return Proposal(
        _ordered(data),
        settings,
        columns,
        remarks,
        errors,
        notes,
        findings,
        about,
        key,
        strangers(settings, inspection.catalog),
        triggers,
        metadata,
        fit,
    )


def _sentence(finding: Finding) -> str:
    return f"{finding.message}. {finding.hint or ''}".replace("\n", " ")


def _ordered(data: Mapping[str, Any]) -> dict[str, Any]:
    """With the tables last, as TOML has to have them."""
    return {name: data[name] for name in sorted(data, key="columns".__eq__)}
