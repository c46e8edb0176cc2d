"""Keeps ``public.users`` in step with Supabase's ``auth.users``."""

__version__ = "0.1.0"
