"""Runs the code blocks of documentation pages as they are written.

The test of a procedure has the name of its heading. It prepares the project, runs the blocks in their order,
and may check results or act as another person between two blocks.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections import deque
from dataclasses import dataclass, field, fields
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

from audit_settings import with_audit_log
from fixtures_catalog import read_catalog
from usersync import AuditLog
from usersync.cli.main import run
from usersync.config.extras import EXTRAS
from usersync.config.settings import Settings, load_settings
from usersync.testing.install import install

if TYPE_CHECKING:
    from auth_stand_in import AuthServer

DOCS = Path(__file__).parents[2] / "docs"
#: The repository's directory, quoted for a shell.
_ROOT = shlex.quote(str(DOCS.parent))


TABLES = """
    create table public.orders (
        id bigint generated always as identity primary key,
        user_id uuid not null references public.users, item text);
    create table public.favourites (
        user_id uuid references public.users, product text, primary key (user_id, product));
"""


#: Privileges that an application revokes and grants. Tables of other schemas use the last two.
CLOSED = """
    revoke all on public.orders from anon, authenticated, service_role;
    grant select on public.orders to authenticated;
    grant update (item) on public.orders to authenticated;
    revoke all on public.favourites from anon, authenticated, service_role;
    create table public.secrets (id serial primary key, secret text);
    revoke all on public.secrets, public.secrets_id_seq from anon, authenticated;
    create function public.read_secrets() returns setof public.secrets language sql security definer
        return (select s from public.secrets as s limit 1);
    revoke all on function public.read_secrets() from public, anon, authenticated;
    create function public.is_public(path text, owner uuid) returns boolean language sql return true;
    create function public.handle_new_auth_user() returns trigger language plpgsql security definer as $$
    begin
        insert into public.secrets (secret) values (new.id::text);
        return new;
    end $$;
    revoke all on function public.handle_new_auth_user() from public, anon, authenticated;
    create trigger on_new_auth_user after insert on auth.users
        for each row execute function public.handle_new_auth_user();
    create schema files;
    create table files.objects (path text, owner uuid);
    create policy shown on files.objects using (public.is_public(path, owner));
    alter default privileges revoke execute on functions from public;
"""


def privileges(database):
    """The privileges on objects in public and usersync, and the default privileges."""
    schemas = ("public.", "usersync.", "public ", "usersync ")
    defaults = """
        select defaclrole::regrole::text, defaclnamespace::regnamespace::text, defaclobjtype, defaclacl::text
        from pg_default_acl order by 1, 2, 3
    """
    columns = """
        select attrelid::regclass::text, attname, attacl::text from pg_attribute
        where attacl is not null and attrelid::regclass::text like 'public.%' order by 1, 2
    """
    with database.connect("supabase_admin") as superuser:
        found = [(*key, body) for key, body in read_catalog(superuser).items() if " granted to " in key[1]]
        return (
            [each for each in found if each[1].startswith(schemas)],
            superuser.execute(defaults).fetchall(),
            superuser.execute(columns).fetchall(),
        )


def build(database):
    install(database, with_audit_log())
    with database.connect() as owner:
        owner.execute(TABLES)


def sections_of(page):
    """The sections of a page, by their headings."""
    return dict(section.split("\n", 1) for section in page.split("\n## ")[1:])


def blocks(text):
    """The language and the text of each block, in their order; a block in a list is indented."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [(language, dedent(body)) for _, language, body in found]


def test_name(heading):
    return "test_" + re.sub(r"\W+", "_", heading.lower())


test_name.__test__ = False


@dataclass
class Procedure:
    """A section of the page, block by block."""

    blocks: deque
    database: object
    server: AuthServer
    capsys: object
    #: The placeholders in angle brackets on the page, with their values.
    names: dict = field(default_factory=dict)
    #: The names that Python blocks use: the reader's, and those of earlier blocks.
    python: dict = field(default_factory=dict)

    def run(self, count=None):
        """Run the next blocks, or all remaining ones."""
        for _ in range(len(self.blocks) if count is None else count):
            language, text = self.blocks.popleft()
            text = re.sub(r"<[\w-]+>", lambda name: str(self.names[name[0]]), text)
            getattr(self, f"_{language}")(text)

    def _console(self, text):
        nothing, *commands = re.split(r"^\$ ", text, flags=re.MULTILINE)
        assert not nothing
        for command in commands:
            line, *shown = command.splitlines()
            code, out = (self.usersync if line.startswith("usersync ") else self.shell)(line)
            expected = re.search(r"# exit code (\d)", line)
            assert code == int(expected[1] if expected else 0), f"{line}\n{out}"
            for each in shown:
                pattern = ".*".join(map(re.escape, each.split("…")))
                assert re.search(f"^ *{pattern}$", out, re.MULTILINE), f"{line}\n{out}"

    def usersync(self, line):
        _, *words = shlex.split(line, comments=True)
        code = run([os.path.expandvars(word) for word in words])
        captured = self.capsys.readouterr()
        return code, captured.out + captured.err

    def shell(self, line):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def _sql(self, text):
        if file := re.match(r"-- (\S+\.sql)\n", text):
            Path(file[1]).write_text(text, "utf-8")
            return
        with self.database.connect() as owner:
            cursor, found, more = owner.execute(text), [], True
            while more:
                found = cursor.fetchall() if cursor.description else found
                more = cursor.nextset()
        shown = re.search(r";(?:  |\n)-- (.*)$", text, re.MULTILINE)
        assert shown or "--" not in text
        if shown:
            rows = [[each if isinstance(each, str) else json.dumps(each) for each in row] for row in found]
            assert "; ".join(map(", ".join, rows)) == shown[1]

    def _python(self, text):
        exec(compile(text, "docs", "exec"), self.python)  # noqa: S102 - our own page

    def _http(self, text):
        request, _, body = text.strip().partition("\n\n")
        method, path = request.split(" /auth/v1", 1)
        headers = {"Authorization": "Bearer secret"}
        status, answer = self.server.answer(method, path, headers, json.loads(body or "{}"))
        assert status == 200, answer


def row(postgres, user_id):
    return postgres.execute("select email, deleted_at from public.users where id = %s", [user_id]).fetchone()


def record(database, user, **fields):
    with AuditLog(database.dsn(), durability="memory") as log:
        log.record("order.placed", actor_id=user, user_id=user, **fields)
        assert log.flush()


@dataclass
class Page(Procedure):
    """An explanatory page, run block by block in a new directory.

    Placeholders that a reader fills in are replaced from ``environment`` and ``names``. Commands that install
    packages or run for a long time are checked but not run.
    """

    environment: dict = field(default_factory=dict)

    def run(self, count=None):
        self.names |= dict.fromkeys(("<project-ref>", "<password>", "<pooler-host>"), "from-the-environment")
        for shown, real in self.names.items():
            for_shell = shlex.quote(str(real)) if " " in str(real) else str(real)
            self.blocks = deque(
                (kind, text.replace(shown, for_shell if kind in {"sh", "console"} else str(real)))
                for kind, text in self.blocks
            )
        super().run(count)

    def skip_block(self, language="text"):
        """Skip the next block: it is a diagram, or output that another test compares."""
        assert self.blocks.popleft()[0] == language

    def usersync(self, line):
        if "--serve" in line or line.startswith(("usersync console", "usersync worker")):
            return self._until_it_serves(line)
        # There is no terminal, so the question is answered with --yes.
        asks = r"^usersync (?:audit enable|apply|erase(?!.*--dry-run))\b"
        follows = r"^usersync audit tail\b"
        return super().usersync(re.sub(asks, r"\g<0> --yes", re.sub(follows, r"\g<0> --no-follow", line)))

    @staticmethod
    def _until_it_serves(line):
        with subprocess.Popen(
            [sys.executable, "-m", *shlex.split(line, comments=True)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            said = process.stdout.readline()
            process.send_signal(signal.SIGINT)
        return 0 if "Ctrl-C to end" in said else 1, said

    def shell(self, line):
        if line.startswith("pip install . "):
            return 0, ""
        if line.startswith("export "):
            return 0 if line.partition("=")[0][7:] in os.environ else 1, line
        if found := re.match(r"pip install \"(?:\.|\.\./\.\.)\[([\w,]+)\]\"", line):
            assert set(found[1].split(",")) <= EXTRAS.keys()
            return 0, ""
        if line.startswith("make "):
            return super().shell(f"env -u MAKEFLAGS make --dry-run --directory {_ROOT} {line[5:]}")
        if found := re.match(r"python (bench/\w+\.py)", line):
            return super().shell(f"{shlex.quote(sys.executable)} {_ROOT}/{found[1]} --help")
        return super().shell(line)

    def _toml(self, text):
        Path("usersync.toml").write_text(
            text if "[columns]" in text or self.is_top(text) else f"[columns]\n{text}"
        )
        load_settings(Path("usersync.toml"))

    @staticmethod
    def is_top(text):
        """Whether the lines are top-level settings, and not columns."""
        return set(tomllib.loads(text)) <= {each.name for each in fields(Settings)}

    def _sh(self, text):
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        if all(re.match(r"[A-Z_]+=\"", line) for line in lines):
            named = [line.partition("=")[0] for line in lines]
            Path(".env.local").write_text("".join(f'{name}="{self.environment[name]}"\n' for name in named))
            return
        code, out = self.shell(text)
        assert code == 0, out
