"""The views of the tests' project."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context

from asgiref.sync import sync_to_async
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path

from usersync.contrib.django import audit, record_on_commit


def nothing(request):
    return HttpResponse("done")


def record_twice(request):
    record(request)
    return record(request)


def record_of_another_user(request):
    request.user = User(pk=77)
    return record(request)


def whose_token(request):
    record(request)
    return HttpResponse(str(request.supabase_user.id if request.supabase_user else None))


async def whose_token_async(request):
    await asyncio.sleep(0)
    return whose_token(request)


def record_in(request):
    User.objects.create(username="made")
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    audit.record_in(connection, "row.made")
    record_on_commit("row.committed")
    audit.record("row.tried")
    if "fail" in request.GET:
        raise RuntimeError("the view has failed")
    return HttpResponse("done")


def record(request):
    audit.record("thing.done", metadata=dict(request.GET.items()))
    return HttpResponse("done")


async def record_async(request):
    await asyncio.sleep(0)
    return record(request)


async def load_and_record(request):
    await request.auser()
    return record(request)


async def record_in_a_thread(request):
    return await sync_to_async(record)(request)


def record_in_an_atomic_block(request):
    with transaction.atomic():
        User.objects.create(username="made")
        audit.record("thing.done")
        made = User.objects.filter(username="made").exists()
    return HttpResponse(str(made))


def record_in_a_failed_block(request):
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            try:
                cursor.execute("select 1/0")
            except Exception:  # noqa: BLE001 - the transaction has failed, and this goes on in it
                audit.record("thing.failed")
            raise ZeroDivisionError
    except ZeroDivisionError:
        return HttpResponse("failed")


def sign_in_and_out(request):
    audit.record("step.before")
    login(request, User.objects.get(username=request.GET["name"]))
    audit.record("step.signed_in")
    logout(request)
    audit.record("step.signed_out")
    return HttpResponse("done")


def fail(request):
    audit.record("thing.tried")
    with audit.action("thing.done"):
        raise RuntimeError("the view has failed")


async def fail_async(request):
    await asyncio.sleep(0)
    fail(request)


def stream(request):
    def chunks():
        try:
            for n in range(3):
                audit.record("chunk.sent", metadata={"n": n})
                yield f"{n};"
        finally:
            audit.record("stream.closed")

    audit.amend_context(actor_id="streamer")
    return StreamingHttpResponse(chunks())


async def stream_async(request):
    async def chunks():
        try:
            for n in range(3):
                await asyncio.sleep(0)
                audit.record("chunk.sent", metadata={"n": n})
                yield f"{n};"
        finally:
            audit.record("stream.closed")

    audit.amend_context(actor_id="streamer")
    return StreamingHttpResponse(chunks())


def file(request):
    return FileResponse(open(__file__, "rb"))  # noqa: PTH123 - the response closes it


def threads(request):
    own = copy_context()
    for target in (
        lambda: own.run(audit.record, "thread.in_a_copy"),
        lambda: audit.record("thread.by_itself"),
    ):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    return HttpResponse("done")


def on_commit(request):
    with transaction.atomic():
        record_on_commit("order.placed", after={"total": 5})
        with transaction.atomic():
            record_on_commit("order.changed")
            transaction.set_rollback(True)
        if "fail" in request.GET:
            transaction.set_rollback(True)
    return HttpResponse("done")


urlpatterns = [
    path(each.__name__, each)
    for each in (
        nothing,
        record,
        record_twice,
        record_of_another_user,
        record_in,
        whose_token,
        whose_token_async,
        record_async,
        load_and_record,
        record_in_a_thread,
        record_in_an_atomic_block,
        record_in_a_failed_block,
        sign_in_and_out,
        fail,
        fail_async,
        stream,
        stream_async,
        file,
        threads,
        on_commit,
    )
]
