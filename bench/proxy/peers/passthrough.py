"""A streaming pass-through: sets the key, forwards, streams the answer back."""
import os
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

HOP = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding", "x-api-key"}
KEY = os.environ["UPSTREAM_KEY"]


@asynccontextmanager
async def lifespan(app: FastAPI):
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=os.environ["UPSTREAM"], limits=limits, timeout=None) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def forward(path: str, request: Request):
    client = request.app.state.client
    headers = {name: value for name, value in request.headers.items() if name not in HOP}
    headers["x-api-key"] = KEY
    body = await request.body()
    sent = client.build_request(request.method, "/" + path, params=request.query_params, headers=headers, content=body)
    answer = await client.send(sent, stream=True)
    passed = {name: value for name, value in answer.headers.items() if name not in HOP}
    return StreamingResponse(
        answer.aiter_raw(), status_code=answer.status_code, headers=passed, background=BackgroundTask(answer.aclose)
    )
