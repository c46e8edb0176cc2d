"""The files and commands of docs/testing.md, run unchanged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from usersync.config.extras import EXTRAS

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"

FILES = {
    name: text
    for text, name in re.findall(
        r"^```(?:python|sql|toml)\n((?:#|--) ([\w.]+)\n.*?)^```$",
        PAGE.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
}


def write(directory, *names):
    for name in names:
        (directory / name).write_text(FILES[name])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_test_files_of_the_page_pass_in_their_order(pytester):
    passed = {}
    for name in FILES:
        write(pytester.path, name)
        if name.startswith("test_"):
            result = pytester.runpytest_subprocess(
                name, "-p", "no:cacheprovider", "-p", "no:schemathesis", "-W", "error"
            )
            passed[name] = result.parseoutcomes()
    assert passed == {
        "test_sign_up.py": {"passed": 2}, "test_orders.py": {"passed": 1}, "test_stock.py": {"passed": 1},
        "test_audit.py": {"passed": 1}, "test_requests.py": {"passed": 1},
    }  # fmt: skip


def test_each_code_block_is_a_file_or_an_existing_command():
    text = PAGE.read_text("utf-8")
    commands = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert text.count("\n```") == 2 * (len(FILES) + len(commands))
    lines = [line.removeprefix("$ ").partition(" ")[0] for block in commands for line in block.splitlines()]
    assert lines == ["pip", "export", "make"]
    (extra,) = re.findall(r"pip install \"\.\[(\w+)\]\"", text)
    assert extra in EXTRAS
    assert re.search(r"^live:", (PAGE.parents[1] / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.slow
def test_the_script_keeps_the_server_until_it_reads_a_line(tmp_path):
    write(tmp_path, "supabase_server.py")
    with subprocess.Popen(
        [sys.executable, tmp_path / "supabase_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as script:
        dsn = script.stdout.readline().strip()
        with psycopg.connect(dsn, autocommit=True) as connection:
            assert connection.execute("select count(*) from auth.users").fetchone() == (0,)
            write(tmp_path, "sign_up.py")
            environment = os.environ | {"SUPABASE_DB_URL": dsn}
            sign_up = [sys.executable, tmp_path / "sign_up.py"]
            user = subprocess.run(sign_up, env=environment, capture_output=True, text=True, check=True).stdout
            found = connection.execute("select id::text, email from auth.users").fetchall()
            assert found == [(user.strip(), "ada@example.com")]
        script.communicate("\n", timeout=90)
    assert script.returncode == 0


MIGRATION = """
create extension if not exists "uuid-ossp" with schema extensions;
create table public.posts (id uuid primary key default uuid_generate_v4(), owner uuid references auth.users);
alter publication supabase_realtime add table public.posts;
insert into storage.buckets (id, name, public) values ('avatars', 'avatars', true);
create policy own_files on storage.objects for insert to authenticated
    with check (bucket_id = 'avatars' and (storage.foldername(name))[1] = auth.uid()::text);
"""


def test_a_migration_of_a_real_project_runs_with_the_stubs(postgres):
    (pattern,) = re.findall(r"`re\.sub\(r\"([^\"]+)\", \"\", migration\)`", PAGE.read_text("utf-8"))
    postgres.execute(FILES["platform.sql"])
    postgres.execute(re.sub(pattern, "", MIGRATION))
    postgres.execute("insert into public.posts default values")
    assert postgres.execute("select storage.foldername('ada/2026/face.png')").fetchone() == (["ada", "2026"],)
