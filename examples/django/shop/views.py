"""The API: each request requires a valid token, and each change records an event."""

from __future__ import annotations

import json
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.core.exceptions import BadRequest
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from usersync.contrib.django import audit, record_on_commit

from .models import Product

if TYPE_CHECKING:
    from collections.abc import Callable


def signed_in(view: Callable[..., JsonResponse]) -> Callable[..., JsonResponse]:
    """Answer 401 without a valid token."""

    @wraps(view)
    def checked(request: HttpRequest, **options: Any) -> JsonResponse:
        return view(request, **options) if request.supabase_user else unauthorized()

    return checked


def unauthorized() -> JsonResponse:
    """Answer 401: the token is missing or invalid."""
    return JsonResponse({"error": "sign in first"}, status=401, headers={"WWW-Authenticate": "Bearer"})


def read(request: HttpRequest, **kinds: type) -> list[Any]:
    """Parse the body; 400 if it is not valid."""
    try:
        given = json.loads(request.body)
        found = [given[name] for name in kinds]
    except (ValueError, KeyError, TypeError):
        found = []
    if not all(type(each) is kind for each, kind in zip(found, kinds.values(), strict=False)) or not found:
        raise BadRequest(f"expected {', '.join(kinds)}")
    return found


@require_http_methods(["GET", "POST"])
@signed_in
def products(request: HttpRequest) -> JsonResponse:
    """List the products, or add one."""
    if request.method == "GET":
        return JsonResponse({"products": list(Product.objects.order_by("id").values())})
    name, stock = read(request, name=str, stock=int)
    try:
        with transaction.atomic():
            product = Product.objects.create(name=name, stock=stock)
            # Recorded after the commit, without delaying it.
            record_on_commit("product.created", entity=("product", product.id), after=product)
    except IntegrityError:
        return JsonResponse({"error": "there is one of this name, or the stock is negative"}, status=409)
    return JsonResponse({"id": product.id}, status=201)


@require_POST
@signed_in
def adjust(request: HttpRequest, product_id: int) -> JsonResponse:
    """Change the stock. The stock and its event commit in one transaction."""
    (quantity,) = read(request, quantity=int)
    with transaction.atomic():
        product = get_object_or_404(Product.objects.select_for_update(), id=product_id)
        before, product.stock = product.stock, product.stock + quantity
        if product.stock < 0:
            return JsonResponse({"error": f"there are only {before}"}, status=409)
        product.save()
        changes = {"stock": (before, product.stock)}
        entity = ("product", product_id)
        audit.record_in(connection, "stock.adjusted", entity=entity, changes=changes, required=True)
    return JsonResponse({"stock": product.stock})


@require_GET
async def count(request: HttpRequest, product_id: int) -> JsonResponse:
    """Return the stock, and record that it was read."""
    if request.supabase_user is None:
        return unauthorized()
    product = await Product.objects.filter(id=product_id).afirst()
    audit.record("stock.counted", entity=("product", product_id))
    return JsonResponse({"stock": product.stock if product else None})
