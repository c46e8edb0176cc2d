"""The project, on the database of SUPABASE_DB_URL, for the users of SUPABASE_URL."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key
from psycopg.conninfo import conninfo_to_dict

BASE_DIR = Path(__file__).parent
SECRET_KEY = os.environ.get("SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")
ROOT_URLCONF = "urls"
USE_TZ = True

address = conninfo_to_dict(os.environ["SUPABASE_DB_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": address.pop("dbname"),
        "USER": address.pop("user"),
        "PASSWORD": address.pop("password"),
        "HOST": address.pop("host"),
        "PORT": address.pop("port", ""),
        "OPTIONS": address,
    }
}

INSTALLED_APPS = ["usersync.contrib.django", "shop"]
MIDDLEWARE = [
    "usersync.contrib.django.AuditContextMiddleware",
    "django.middleware.common.CommonMiddleware",
]

USERSYNC = {
    # Checks access tokens. Their user is request.supabase_user and the actor of events.
    "TOKENS": {},
    # The network of the load balancer, so that events have the client's address.
    "TRUSTED_PROXIES": [],
    "SETTINGS": {
        "audit": {"enabled": True},
        "columns": {
            "email": "email",
            "full_name": ["user_metadata.full_name", "user_metadata.name"],
            "deleted_at": "deleted_at",
        },
    },
}
