"""An application with a request that never ends, to stop a worker during it."""

import asyncio

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from usersync import AuditLog
from usersync.contrib.fastapi import AuditContextMiddleware, lifespan

audit = AuditLog.from_env()
app = FastAPI(lifespan=lifespan(audit))
app.add_middleware(AuditContextMiddleware)


@app.get("/work")
async def work():
    async def ids():
        try:
            for number in range(50):
                yield audit.record("work.done", metadata={"number": number}) + "\n"
            await asyncio.Event().wait()
        finally:
            audit.record("work.broken_off")

    return StreamingResponse(ids())
