"""SQL that creates a hand-written trigger."""

from __future__ import annotations


def trigger(body: str, *, name: str = "handwritten", when: str = "after insert") -> str:
    """A row trigger on auth.users, and its function."""
    return f"""
        create function public.{name}() returns trigger language plpgsql security definer
            set search_path = '' as $$ begin {body} return new; end $$;
        create trigger {name} {when} on auth.users for each row execute function public.{name}();
    """
