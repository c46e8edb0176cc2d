"""Writes the reference pages that follow from the code. Run with: make docs

``--check`` writes nothing and fails if a page is stale; that is what ``make verify`` runs.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
import griffe

from usersync.cli.group import usersync as cli
from usersync.cli.lazy import LazyGroup
from usersync.config.mapping import DEFAULT_COLUMNS, SOURCE_TYPES
from usersync.config.settings import Settings
from usersync.metrics import definitions
from usersync.sql.render import render_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "bench"))
NOTE = "<!-- Made by docs/generate.py from the code. Do not edit; run: make docs -->\n\n"


def settings_page() -> str:
    """A table of the settings, from the fields of the dataclass that reads them."""
    defaults = Settings().describe()
    rows = [
        f"| `{each.name}` | {_default(each.name, defaults[each.name])} | {each.metadata['doc']} |"
        for each in fields(Settings)
    ]
    mapping = [f"{name} = {_toml(source)}" for name, source in DEFAULT_COLUMNS.items()]
    sources = [f"| `{name}` | {kind} |" for name, kind in sorted(SOURCE_TYPES.items())]
    parts = (
        (DOCS / "settings.head.md").read_text(),
        "## All settings\n\n| setting | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n",
        "## The default mapping\n\n```toml\n[columns]\n" + "\n".join(mapping) + "\n```\n",
        "## Sources\n\nThe columns of `auth.users` that can be mirrored. Credentials, tokens and "
        "unconfirmed addresses are not among them.\n\n| source | type |\n|---|---|\n"
        + "\n".join(sources)
        + "\n",
    )
    return "\n".join(parts)


def _default(name: str, value: object) -> str:
    return "[below](#the-default-mapping)" if name == "columns" else f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return str(value) if not isinstance(value, str) else f'"{value}"'


def commands_page() -> str:
    """What each command's --help says, those of groups included."""
    context = click.Context(cli, info_name="usersync", max_content_width=90, terminal_width=90)
    return "\n".join([(DOCS / "commands.head.md").read_text(), *_command_blocks(cli, context)])


def _command_blocks(group: LazyGroup, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(name)
        sub = click.Context(command, info_name=name, parent=context, max_content_width=90, terminal_width=90)
        yield f"## {sub.command_path}\n\n```text\n{click.unstyle(command.get_help(sub)).strip()}\n```\n"
        if isinstance(command, LazyGroup):
            yield from _command_blocks(command, sub)


def sql_page() -> str:
    """Every object in the database, from the comments that it carries there."""
    bundle = render_bundle(Settings())
    texts = [
        bundle.bootstrap,
        *(each.up for each in bundle.migrations),
        *(each.text for each in bundle.functions),
    ]
    rows = sorted(row for text in texts for row in _comments(text))
    table = "\n".join(f"| {kind} | `{name}` | {comment} |" for kind, name, comment in rows)
    head = (DOCS / "sql-objects.head.md").read_text()
    return (
        f"{head}\n## Everything that is installed\n\n| kind | name | what it is |\n|---|---|---|\n{table}\n"
    )


_COMMENT = re.compile(
    r"comment on (schema|table|function) (\S+?(?:\([^)]*\))?) is\s+((?:'(?:[^']|'')*'\s*)+);"
)


def _comments(sql: str) -> Iterator[tuple[str, str, str]]:
    for kind, name, literals in _COMMENT.findall(sql):
        text = "".join(re.findall(r"'((?:[^']|'')*)'", literals)).replace("''", "'")
        yield kind, name.replace('"', ""), text.removeprefix("usersync: ")


def monitoring_page() -> str:
    """Every figure, from its definition."""
    rows = [
        f"| `{each.name}{'_total' if each.kind == 'counter' else ''}` | {', '.join(map(_code, each.labels))} "
        f"| {each.help} |"
        for each in definitions()
    ]
    table = "| name | labels | |\n|---|---|---|\n" + "\n".join(rows)
    return (DOCS / "monitoring.head.md").read_text().replace("<!-- figures -->", table)


def _code(text: str) -> str:
    return f"`{text}`"


def performance() -> str:
    """The measured figures, from the kept results of bench/."""
    from page import performance_page  # noqa: PLC0415 - in bench/, which is no package

    return str(performance_page((DOCS / "performance.head.md").read_text()))


def growth() -> str:
    """The picture on that page."""
    from page import growth_chart  # noqa: PLC0415 - likewise

    return str(growth_chart())


def differences_page() -> str:
    """What tests/p9 has found to be different after adoption, by schema and flow."""
    golden = DOCS.parent / "tests" / "golden" / "differences"
    tables = (_differences_of(path) for path in sorted(golden.glob("*.json")))
    return "\n".join([(DOCS / "differences.head.md").read_text(), *tables])


def _differences_of(path: Path) -> str:
    flows: dict[str, list[str]] = json.loads(path.read_text())["flows"]
    by_text = dict[str, list[str]]()
    for flow, said in flows.items():
        by_text.setdefault("<br>".join(said).replace("<id>", "`<id>`"), []).append(flow)
    rows = sorted(by_text.items(), key=lambda row: not row[0])
    lines = [f"| {', '.join(names)} | {text or 'nothing'} |" for text, names in rows]
    return f"## {path.stem}\n\n| flows | what is different |\n|---|---|\n" + "\n".join(lines) + "\n"


#: The sections of the reference, and the modules whose names they have.
PUBLIC = {
    "Clients, the audit log, settings": ("usersync",),
    "Installing": ("usersync.manage",),
    "What methods return": ("usersync.models",),
    "Errors": ("usersync.errors",),
    "Web frameworks": (
        *("usersync.contrib.asgi", "usersync.contrib.wsgi", "usersync.contrib.request"),
        *("usersync.contrib.auth", "usersync.contrib.starlette", "usersync.contrib.fastapi"),
        "usersync.contrib.flask",
    ),
    "Django": (
        *("usersync.contrib.django", "usersync.contrib.django.operations"),
        *("usersync.contrib.django.audit_admin.models", "usersync.contrib.django.audit_admin.admin"),
    ),
    "SQLAlchemy, asyncpg and Alembic": (
        *("usersync.contrib.sqlalchemy", "usersync.contrib.asyncpg", "usersync.contrib.alembic"),
    ),
    "Task queues": (
        *("usersync.contrib.celery", "usersync.contrib.dramatiq", "usersync.contrib.procrastinate"),
        "usersync.contrib.rq",
    ),
    "supabase-py and logs": ("usersync.contrib.supabase", "usersync.contrib.logs"),
    "The console": ("usersync.console",),
    "Metrics": (
        *("usersync.metrics.reading", "usersync.metrics.prometheus", "usersync.metrics.opentelemetry"),
        "usersync.metrics",
    ),
    "Tests": ("usersync.testing", "usersync.embedded"),
}


def public_names() -> Iterator[tuple[str, str, griffe.Object | griffe.Alias]]:
    """Every public name: section, path, and the object or the name that it stands for."""
    package = griffe.load(
        "usersync",
        search_paths=[DOCS.parent / "src"],
        resolve_aliases=True,
        extensions=griffe.load_extensions(DOCS / "comments.py"),
    )
    named = {name for modules in PUBLIC.values() for name in modules}
    others = tuple(
        each.canonical_path
        for each in _modules(package["contrib"])
        if each.exports is not None and each.canonical_path not in named
    )
    for section, modules in {**PUBLIC, "Other integrations": others}.items():
        for name in modules:
            module = package[name.removeprefix("usersync.")] if name != "usersync" else package
            if module.exports is None:
                raise LookupError(f"{name} has no __all__")
            for each in module.exports:
                yield section, f"{name}.{each}", module[str(each)]


def _modules(module: griffe.Object) -> Iterator[griffe.Object]:
    for each in module.modules.values():
        yield each
        yield from _modules(each)


def reference_page() -> str:
    """Every public name, from its docstring. A name that several modules export is described once."""
    described = dict[str, str]()
    parts = dict[str, list[str]]()
    for section, path, found in public_names():
        home = found.canonical_path
        if home in described:
            also = f"`{path}` is [`{described[home]}`][{described[home]}].\n"
            parts.setdefault(section, []).append(also)
            continue
        described[home] = path
        # Methods of a base class that is not public itself.
        options = "\n    options: {inherited_members: true}" if section not in _WITHOUT_INHERITED else ""
        parts.setdefault(section, []).append(f"::: {path}{options}\n")
    pages = [f"## {section}\n\n" + "\n".join(names) for section, names in parts.items()]
    return "\n".join([(DOCS / "reference.head.md").read_text(), *pages])


_WITHOUT_INHERITED = {"What methods return", "Errors"}


PAGES = {
    "reference.md": reference_page,
    "differences.md": differences_page,
    "settings.md": settings_page,
    "commands.md": commands_page,
    "sql-objects.md": sql_page,
    "monitoring.md": monitoring_page,
    "performance.md": performance,
    "performance.svg": growth,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say which are stale."""
    stale = []
    for name, make in PAGES.items():
        page, text = DOCS / name, make() if name.endswith(".svg") else NOTE + make()
        if page.exists() and page.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            page.write_text(text)
    if stale and "--check" in arguments:
        sys.stderr.write(f"stale: {', '.join(stale)}. Run: make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
