"""Fixtures for tests of subscriptions and workers."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from working import Working

from usersync import AuditLog
from usersync.cli.main import run
from usersync.worker import ingest, runner, worker

if TYPE_CHECKING:
    from fixtures_project import Project


@pytest.fixture
def audit_enabled() -> bool:
    return True


@pytest.fixture
def working(project: Project) -> Working:
    return Working(project)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    """How often an idle worker looks for events, and how long its request to a stream is open.

    A worker with ``ingest`` ends when this request has ended.
    """
    monkeypatch.setattr(worker, "SLOWEST_S", 0.2)
    monkeypatch.setattr(runner, "_IDLE_S", 0.2)
    monkeypatch.setattr(ingest, "_FETCH_S", 0.05)


@pytest.fixture
def own_spools(monkeypatch, tmp_path):
    """The worker's own spool, apart from those of other tests."""
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "worker"))


@pytest.fixture
def opened(tmp_path):
    logs = []

    def new(url, **options):
        log = AuditLog(url, **{"spool_dir": tmp_path / "spools", "exit_timeout": 0.0} | options)
        logs.append(log)
        return log

    yield new
    for each in logs:
        each.close(0)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def command(working, monkeypatch, tmp_path, capsys):
    """A function that runs ``usersync subscriptions``. Returns the exit code and the output."""
    monkeypatch.setenv("SUPABASE_DB_URL", working.dsn)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = run(["subscriptions", *arguments])
        found = capsys.readouterr()
        return code, found.out + found.err

    return call
