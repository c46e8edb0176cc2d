"""Handlers in every form that FastAPI supports; each records an event with its name.

No `annotations` future import: FastAPI reads the annotations.
"""

import asyncio
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse

from usersync import AuditLog
from usersync.contrib.fastapi import CurrentUser, VerifiedUser


def add_plain(app: FastAPI, audit: AuditLog, current_user: CurrentUser) -> None:
    user_type = Annotated[VerifiedUser, Depends(current_user)]

    @app.get("/async")
    async def in_a_coroutine(user: user_type):
        audit.record("handled.async", metadata={"user": str(user.id)})

    @app.get("/sync")
    def in_a_thread(user: user_type):
        audit.record("handled.sync", metadata={"user": str(user.id)})

    @app.get("/nobody")
    async def nobody():
        audit.record("handled.nobody")

    @app.get("/raises")
    async def raises(_: user_type):
        with audit.action("handled.raises"):
            raise LookupError("a bug")

    @app.get("/refuses")
    async def refuses(_: user_type):
        with audit.action("handled.refuses"):
            raise HTTPException(418)


def add_around(app: FastAPI, audit: AuditLog, current_user: CurrentUser) -> None:
    user_type = Annotated[VerifiedUser, Depends(current_user)]

    def dependency_in_a_thread():
        audit.record("handled.dependency_before")

    async def dependency_that_ends_later(_: user_type):
        audit.record("handled.dependency")
        yield
        audit.record("handled.dependency_end")

    @app.get("/dependencies", dependencies=[Depends(dependency_in_a_thread)])
    async def dependencies(_: Annotated[None, Depends(dependency_that_ends_later)]):
        audit.record("handled.dependencies")

    @app.get("/background")
    async def background(tasks: BackgroundTasks, _: user_type):
        async def later():
            await asyncio.sleep(0)
            audit.record("handled.task")

        tasks.add_task(later)
        tasks.add_task(audit.record, "handled.task_in_a_thread")


def add_lasting(app: FastAPI, audit: AuditLog, current_user: CurrentUser) -> None:
    user_type = Annotated[VerifiedUser, Depends(current_user)]

    @app.get("/stream/async")
    async def stream_async(_: user_type):
        async def chunks():
            yield "a"
            await asyncio.sleep(0)
            audit.record("handled.stream")
            yield "b"

        return StreamingResponse(chunks())

    @app.get("/stream/sync")
    async def stream_sync(_: user_type):
        def chunks():
            yield "a"
            audit.record("handled.stream_in_a_thread")
            yield "b"

        return StreamingResponse(chunks())

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, _: user_type):
        await websocket.accept()
        while (text := await websocket.receive_text()) != "end":
            audit.record("handled.socket", metadata={"text": text})
        await websocket.close()


def add_together(app: FastAPI, audit: AuditLog, current_user: CurrentUser, size: int) -> None:
    """A handler that continues once this many requests have arrived."""
    everybody = asyncio.Barrier(size)

    @app.get("/together")
    async def together(user: Annotated[VerifiedUser, Depends(current_user)]):
        await everybody.wait()
        audit.record("handled.together", metadata={"user": str(user.id)})
