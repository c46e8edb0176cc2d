"""GoTrue, as far as a database can tell: its statements, in its order, in its transactions, as its role.

Read off supabase/auth (August 2026, commit bc32168e); the docstring of each method says where. No code of it
is used. What is left out writes nothing to auth.users: its audit log, hooks, mails, flow states.
"""

from __future__ import annotations

from usersync.gotrue.account import Accounts
from usersync.gotrue.bulk import Imports
from usersync.gotrue.change import Changes
from usersync.gotrue.errors import GoTrueError
from usersync.gotrue.removal import Removals
from usersync.gotrue.signup import SignUps
from usersync.gotrue.user import AuthUser

__all__ = ["AuthUser", "GoTrue", "GoTrueError"]


class GoTrue(SignUps, Accounts, Changes, Removals, Imports):
    """The auth server's side of a test: ``GoTrue(database.dsn("supabase_auth_admin"))``.

    Each method is one HTTP request, and one transaction where it does not say otherwise; it returns the
    user's id, and raises ``GoTrueError``, with what the server would answer, when the database refuses.
    A context manager; blocks; not for several threads.
    """
