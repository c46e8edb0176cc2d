"""Installs usersync and its audit log."""

from usersync.contrib.alembic import apply_usersync, rollback_usersync

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """After an upgrade of the library or a change of usersync.toml, add another migration with this line."""
    apply_usersync()


def downgrade() -> None:
    """The tables stay, and so does an audit log that has events."""
    rollback_usersync()
