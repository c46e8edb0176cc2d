"""Django REST framework: an authentication class of the application's own hides the user of Supabase."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.core import checks
from django_site import PROJECT

pytestmark = pytest.mark.newest_server

REST = {
    "INSTALLED_APPS": [*PROJECT["INSTALLED_APPS"], "rest_framework"],
    "ROOT_URLCONF": "django_rest",
    "REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": ["django_rest_authentication.OwnAuthentication"]},
}


def warned():
    return [each for each in checks.run_checks(tags=["usersync"]) if each.id == "usersync.W003"]


def test_the_check_says_what_to_set_and_the_actor_is_then_the_user_of_supabase(site, configure):
    ada = str(uuid4())
    configure(django=REST)
    site.wsgi("record", x_subject=ada)
    (warning,) = warned()
    assert "django_rest_authentication.OwnAuthentication" in warning.msg
    assert 'USERSYNC["ACTOR"]' in warning.hint
    configure(django=REST, ACTOR="django_rest.actor")
    site.wsgi("record", x_subject=ada)
    assert site.events("actor_id, actor_type") == [("7", "user"), (ada, "user")]
    assert warned() == []


@pytest.mark.parametrize(
    ("classes", "usersync", "count"),
    [
        (["django_rest_authentication.OwnAuthentication"], {"TOKENS": {"url": "http://localhost"}}, 0),
        (["rest_framework.authentication.SessionAuthentication"], {}, 0),
        (["rest_framework.authentication.TokenAuthentication", "shop.auth.Supabase"], {}, 1),
        (None, {}, 0),
    ],
)
def test_only_an_authentication_class_of_the_applications_own_is_warned_of(
    configure, classes, usersync, count
):
    rest = {"DEFAULT_AUTHENTICATION_CLASSES": classes} if classes else {}
    configure(django=REST | {"REST_FRAMEWORK": rest}, DATABASE=None, **usersync)
    assert len(warned()) == count


def test_without_django_rest_framework_there_is_no_warning(configure):
    configure(django={"REST_FRAMEWORK": REST["REST_FRAMEWORK"]}, DATABASE=None)
    assert warned() == []
