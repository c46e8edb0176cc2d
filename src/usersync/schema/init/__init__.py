"""``usersync init``: inspect a database and propose settings for it. Writes nothing.

Call ``look_for_tables()``, then ``propose()`` with one of its choices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from usersync.config.settings import Settings, parse_settings
from usersync.core.app_migrations import migrations_that_create
from usersync.core.audit_log import has_log
from usersync.errors import ConflictError
from usersync.schema.adoption import users_triggers
from usersync.schema.findings import find
from usersync.schema.first_run import is_question, preview
from usersync.schema.gates import gates
from usersync.schema.init.columns import (
    Proposed,
    asked_subjects,
    changed_by_trigger,
    is_mirrored,
    left_to_application,
    propose_columns,
    relieved,
    required,
    updated_elsewhere,
)
from usersync.schema.init.differing_values import differing_values
from usersync.schema.init.non_user_rows import find_division, question_of_users_where
from usersync.schema.init.policies import (
    anonymized,
    notes_on_users,
    on_delete_for,
    on_soft_delete_for,
    skipped_today,
)
from usersync.schema.init.row_creation import find_row_creation, question_of_rows
from usersync.schema.init.sources import evidence_of
from usersync.schema.init.stored_settings import stored_settings
from usersync.schema.init.survey import Fit, Key, Metadata, describe_table, sample_metadata, try_mapping
from usersync.schema.init.table_choice import Choice
from usersync.schema.init.tables import Tables, look_for_tables
from usersync.schema.init.trial_evidence import Observed, open_questions
from usersync.schema.init.trigger_overrides import changed_on_write
from usersync.schema.inspection import inspect
from usersync.schema.keys import key_findings
from usersync.schema.third_party_triggers import ThirdPartyTrigger, third_party_triggers
from usersync.sql.render import render_bundle
from usersync.transports.steps import query_row, read_only

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usersync.config.mapping import TableName
    from usersync.models import Finding
    from usersync.schema.init.question import Answer, Question
    from usersync.schema.init.sources import Evidence
    from usersync.schema.inspection import Inspection
    from usersync.schema.trial.observation import Trial
    from usersync.transports.steps import Row, Steps

__all__ = ["Choice", "Proposal", "Proposed", "Tables", "look_for_tables", "propose"]


@dataclass(frozen=True)
class Proposal:
    """Proposed settings for a database, and the evidence for them."""

    #: As ``parse_settings()`` reads it.
    data: Mapping[str, Any]
    settings: Settings
    columns: tuple[Proposed, ...]
    #: The reason for a setting, by its name.
    remarks: Mapping[str, str]
    #: What a person has to decide, except about columns.
    decisions: tuple[str, ...]
    #: Facts that the settings do not change.
    notes: tuple[str, ...]
    #: The findings of ``plan`` with these settings.
    findings: tuple[Finding, ...]
    #: The existing users table, and its key; None if there is no table.
    about: Mapping[str, Any] | None
    key: Key | None
    third_party_triggers: tuple[ThirdPartyTrigger, ...]
    #: The triggers of the users table.
    triggers: tuple[Row, ...]
    metadata: Metadata | None
    fit: Fit | None
    #: The observations of the auth server's flows, if they were tried.
    trial: Trial | None = None
    #: Open questions; each answer is a setting.
    asked: tuple[Question, ...] = ()
    #: Questions that the trial leaves open.
    questions: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether a person has something to decide."""
        open_ones = (*self.asked, *self.questions, *self.decisions)
        return bool(open_ones or any(each.decide for each in self.columns))

    @property
    def needs_adoption(self) -> bool:
        """Whether ``apply --adopt`` would replace or change something."""
        adopted = any(each.is_replaceable for each in self.third_party_triggers)
        return adopted or any(row["is_ours"] and row["names"] for row in self.triggers)


def propose(
    source: TableName,
    chosen: Choice | TableName | None,
    trial: Trial | None = None,
    answers: Mapping[str, Answer] | None = None,
    *,
    wants_log: bool = False,
    tries_writes: bool = True,
) -> Steps[Proposal]:
    """Propose settings for this users table; the defaults if it does not exist.

    ``trial`` has the observations of the auth server's flows, if they were tried. ``answers`` are the answers
    to questions, by setting. ``wants_log`` proposes an audit log; an existing log stays. With
    ``tries_writes``, if triggers of the table may change written values, a row is updated and rolled back.
    """
    if not isinstance(chosen, Choice):
        return (yield from _propose_new(source, chosen, wants_log=wants_log))
    data: dict[str, Any] = {"users_table": str(chosen.table)}
    if source != Settings().source_table:
        data["source_table"] = str(source)
    if chosen.key.name != "id":
        data["key"] = chosen.key.name
    data |= _key_type(chosen.key)
    base = parse_settings({**data, "columns": {}})
    about = yield from describe_table(base)
    if about is None:
        raise ConflictError(f"table {chosen.table} no longer exists", hint="Run usersync init again.")
    metadata = yield from sample_metadata(base)
    inspection = yield from inspect(render_bundle(base))
    stored = inspection.noted and inspection.noted["settings"]
    if stored and stored["users_table"] == str(chosen.table):
        data, columns = stored_settings(stored, about, chosen.key.name)
        data["columns"] = _entries(columns)
        data |= _key_type(chosen.key)
        remark = "usersync is installed in this database with these settings."
        return (
            yield from _conclude(
                data,
                columns,
                {"users_table": remark, **_key_remark(data)},
                about,
                metadata,
                key=chosen.key,
                wants_log=wants_log,
            )
        )
    draft = _Draft(data, base, about, chosen, answers or {}, tries_writes, _key_remark(data))
    yield from draft.fill(metadata or Metadata(), inspection, trial)
    data["columns"] = _entries(draft.columns)
    proposal = yield from _conclude(
        data, draft.columns, draft.remarks, about, metadata, key=chosen.key, wants_log=wants_log
    )
    return replace(proposal, trial=trial, asked=tuple(draft.asked), questions=tuple(open_questions(trial)))


#: The users that each kind of ``skip`` means.
_SKIPPED = {
    "anonymous": "anonymous users",
    "unconfirmed": "users without a confirmed address",
    "without_email": "users without an e-mail address",
}


def _named(skipped: Iterable[str]) -> str:
    return " and ".join(_SKIPPED[kind] for kind in skipped)


@dataclass
class _Draft:
    """Proposed settings for an existing table, step by step."""

    data: dict[str, Any]
    base: Settings
    about: Mapping[str, Any]
    chosen: Choice
    answers: Mapping[str, Answer]
    tries_writes: bool
    #: The reason for a setting, by its name.
    remarks: dict[str, str]
    asked: list[Question] = field(default_factory=list)
    columns: tuple[Proposed, ...] = ()

    def fill(self, metadata: Metadata, inspection: Inspection, trial: Trial | None) -> Steps[None]:
        found = third_party_triggers(self.base, inspection.catalog)
        observed = Observed(trial, self.chosen.table)
        evidence = evidence_of(self.base, found, metadata, inspection.catalog, observed)
        self.columns = propose_columns(self.about, self.chosen.key.name, evidence)
        yield from self._find_non_user_rows(evidence)
        self._set_deletion_policies(found, observed, evidence)
        if skipped := skipped_today(self.chosen.table, found, observed):
            self._set("skip", list(skipped), f"As today: {_named(skipped)} get no row.")
        creation = yield from find_row_creation(self.base, self.chosen, found, observed)
        self._ask(question_of_rows(self.base, creation, required(self.columns, self.about)))
        if self.data.get("creates_rows") is False:
            self.columns = tuple(map(relieved, self.columns))
        changed: frozenset[str] = frozenset()
        if self.tries_writes:
            changed = yield from changed_on_write(self.base, self.about, self.columns, inspection)
        self.columns = tuple(
            updated_elsewhere(changed_by_trigger(each, changed), creation.updated_elsewhere)
            for each in self.columns
        )
        yield from self._keep_application_values(inspection, evidence.followed)

    def _keep_application_values(self, inspection: Inspection, followed: frozenset[str]) -> Steps[None]:
        """Overwrite no value of the application if no trigger keeps the column equal today."""
        names = {each.name for each in self.columns if is_mirrored(each) and each.name not in followed}
        if self.data.get("creates_rows") is False:
            reasons: Mapping[str, str] = dict.fromkeys(names, _CREATES_ROWS)
        else:
            reasons = yield from differing_values(
                parse_settings(self.data | {"columns": _entries(self.columns)}),
                inspection,
                names,
                is_ours=self.about["is_ours"],
            )
        self.columns = tuple(left_to_application(each, reasons.get(each.name)) for each in self.columns)

    def _find_non_user_rows(self, evidence: Evidence) -> Steps[None]:
        """Find rows that do not belong to users. A foreign key to auth.users excludes them."""
        if self.chosen.key.refers:
            return
        division = yield from find_division(self.base, self.about)
        if classifying := division.classifying(evidence.written):
            self._set("users_where", classifying, f"The rows of users have this value. {_OTHERS}")
        else:
            self._ask(question_of_users_where(self.base, division))
        names = self.data.get("users_where", {})
        self.columns = tuple(
            Proposed(each.name, None, "users_where names it") if each.name in names else each
            for each in self.columns
        )

    def _set_deletion_policies(
        self, found: tuple[ThirdPartyTrigger, ...], observed: Observed, evidence: Evidence
    ) -> None:
        tombstone = next(
            (each.name for each in self.columns if each.entry and each.entry.get("from") == ["deleted_at"]),
            None,
        )
        hard, remark = on_delete_for(self.chosen, self.about, found, observed, tombstone)
        self._set("on_delete", hard, self._emptied(hard) + remark)
        soft, remark = on_soft_delete_for(observed, tombstone, evidence.followed)
        if soft != hard:
            self._set("on_soft_delete", soft, self._emptied(soft) + remark)

    def _emptied(self, policy: str) -> str:
        """The columns that the policy empties, as a sentence; an empty text if it empties none."""
        if policy != "anonymize":
            return ""
        columns = parse_settings(self.data | {"columns": _entries(self.columns)}).columns
        return anonymized([each.name for each in columns if each.personal], self.about)

    def _set(self, name: str, value: Any, remark: str) -> None:
        self.data[name], self.remarks[name] = value, remark

    def _ask(self, question: Question | None) -> None:
        """Use the given answer. Without one, assume the first answer, and leave the question open."""
        if question is None:
            return
        if question.setting in self.answers:
            self.data.update(self.answers[question.setting].data)
            return
        self.asked.append(question)
        self.data.update(question.answers[0].data)
        if question.answers[0].data:
            self.remarks[question.setting] = question.remark


_CREATES_ROWS = "your application creates the rows, so the values in them are its own"


def _entries(columns: Iterable[Proposed]) -> dict[str, Any]:
    """The entries of ``[columns]``."""
    return {each.name: dict(each.entry) for each in columns if each.entry is not None}


_OTHERS = "usersync never compares, counts or changes the other rows, which have no auth user."


def _key_type(key: Key) -> dict[str, str]:
    """The setting ``key_type``, if it is not the default."""
    return {} if key.type.is_uuid else {"key_type": str(key.type)}


def _key_remark(data: Mapping[str, Any]) -> dict[str, str]:
    if "key_type" not in data:
        return {}
    return {
        "key_type": f"The column {data.get('key', 'id')} holds the id as text. Rows with any other text in "
        "it do not belong to users, and are not changed."
    }


def _propose_new(source: TableName, table: TableName | None, *, wants_log: bool) -> Steps[Proposal]:
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
    data["columns"] = _entries(columns)
    remark = "This table does not exist: usersync creates it, with these columns."
    return (yield from _conclude(data, columns, {"users_table": remark}, None, None, wants_log=wants_log))


def _conclude(
    data: dict[str, Any],
    columns: tuple[Proposed, ...],
    remarks: dict[str, str],
    about: Mapping[str, Any] | None,
    metadata: Metadata | None,
    *,
    wants_log: bool,
    key: Key | None = None,
) -> Steps[Proposal]:
    """Inspect the database with the proposed settings, as ``plan`` does."""
    data, remark = yield from _with_audit_log(data, wants_log=wants_log)
    if remark:
        remarks["audit"] = remark
    settings = parse_settings(data)
    bundle = render_bundle(settings)
    inspection = yield from inspect(bundle)
    # A column with a question of its own is asked about once.
    asked = asked_subjects(columns, settings)
    findings = tuple(
        replace(each, level="problem") if each.subject in asked else each
        for each in find(settings, inspection, adopt=True)
    )
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
        third_party_triggers(settings, inspection.catalog),
        triggers,
        metadata,
        fit,
    )


def _with_audit_log(data: dict[str, Any], *, wants_log: bool) -> Steps[tuple[dict[str, Any], str | None]]:
    """The settings with the section for the audit log, and a remark about it.

    A log is created only on request. An existing log is in use.
    """
    given: dict[str, Any] = data.get("audit", {})
    settings = parse_settings(data)
    if not settings.audit.is_own:
        return data, None
    if (yield from has_log(settings)):
        return {**data, "audit": {**given, "enabled": True}}, None
    audit, remark = {"enabled": wants_log, **given}, None
    table = settings.audit_table
    taken = yield from query_row("select to_regclass(%(name)s) is not null as found", name=table.quoted)
    if taken["found"] or migrations_that_create(table):
        audit["table"] = "public.audit_events"
        remark = (
            f"{table} is a table of your application, so the audit log gets another table. To use your table "
            "instead, name it here, and map its columns in [audit.columns]."
        )
    return {**data, "audit": audit}, remark


def _sentence(finding: Finding) -> str:
    hint = re.sub(r"([.:,])\n", r"\1 ", finding.hint or "").replace("\n", "; ")
    return f"{finding.message}. {hint}"


def _ordered(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the order that TOML requires: the tables last."""
    return {name: data[name] for name in sorted(data, key="columns".__eq__)}
