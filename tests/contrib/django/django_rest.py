"""A view of Django REST framework."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from usersync.contrib.django import audit


class Record(APIView):
    permission_classes = (IsAuthenticated,)

    def get(self, _: Any) -> Response:
        return Response({"id": audit.record("stock.counted")})


def actor(request: Any) -> str | None:
    """The subject of the token, which is the id in auth.users."""
    return request.headers.get("X-Subject")


urlpatterns = [path("record", Record.as_view())]
