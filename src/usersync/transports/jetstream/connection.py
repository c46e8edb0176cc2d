"""Connects to a NATS cluster and publishes to its streams. No other module imports nats."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.config.extras import needed
from usersync.version import __version__

with needed("nats", "a connection to NATS"):
    from nats import errors
    from nats.aio.client import Client
    from nats.js import errors as stream_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext

    from usersync.transports.jetstream.address import StreamAddress

_CONNECT_S, _AGAIN_S = 2, 0.2
#: Seconds to connect to any of the servers.
_CONNECT_ALL_S = 10.0
#: How often the server is pinged. After three pings without an answer, the client connects to another server.
#: A cut network closes no connection, and the default of nats-py is six minutes.
_PING_S, _UNANSWERED_PINGS = 5, 2
#: The time limit of a request to JetStream.
ANSWER_S = 5.0

_API = "$JS.API"
#: How long after the end of a request for messages its last answer may come.
_GRACE_S = 1.0
_NO_CONSUMER = "503"


class StreamError(Exception):
    """NATS or JetStream failed. A later attempt may succeed. The message contains no secret."""


class NoStreamError(StreamError):
    """No such stream or consumer, or no stream with the subject. Also raised while a leader is elected."""


class TooLargeError(StreamError):
    """The message is larger than the server or the stream allows."""


@dataclass(frozen=True)
class PublishAck:
    """The acknowledgement of a published message: its stream has stored it in a majority of the replicas."""

    stream: str
    number: int
    #: Whether a message with the same id was stored before, in the duplicate window.
    is_duplicate: bool


class _Client(Client):
    """Does not log in without TLS if the URL requires TLS.

    The server's first message (INFO) is not encrypted, so an attacker could remove ``tls_required`` from it.
    """

    requires_tls = False

    def _connect_command(self) -> bytes:
        if self.requires_tls and not self._server_info.get("tls_required"):
            raise errors.Error("the server does not offer TLS, and tls:// requires it")
        command: bytes = super()._connect_command()
        return command

    async def _process_connect_init(self) -> None:
        """Close the socket if the server does not answer the login. nats-py would open the next one."""
        try:
            await super()._process_connect_init()
        except BaseException:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
            raise

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        """No headers, if they cannot be read.

        The server checks no headers. In nats-py, the error would end the reading of this connection for good.
        """
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except Exception:  # noqa: BLE001 - whatever a publisher has sent
            return None
        return found


class Connection:
    """A connection, for one event loop. If its server ends, it reconnects to another one of the cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.streams: JetStreamContext = client.jetstream(timeout=ANSWER_S)

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, or reconnects."""
        return not self._client.is_closed

    @property
    def max_payload(self) -> int:
        """The largest message that the server accepts, in bytes, with headers."""
        return self._client.max_payload

    async def publish(
        self, subject: str, body: bytes, message_id: str, *, headers: Mapping[str, str], limit: float
    ) -> PublishAck:
        """Publish a message, and wait at most ``limit`` seconds for the acknowledgement of its stream.

        Raises ``StreamError``.
        """
        with _translated():
            answer = await self.streams.publish(
                subject, body, timeout=limit, headers={"Nats-Msg-Id": message_id, **headers}
            )
            return PublishAck(answer.stream, answer.seq, bool(answer.duplicate))

    async def request(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to JetStream's API, for example ``STREAM.INFO.name``. Raises ``StreamError``."""
        with _translated():
            reply: Msg = await self._client.request(
                f"{_API}.{subject}", json.dumps(body or {}).encode(), timeout=ANSWER_S
            )
            answer: dict[str, Any] = json.loads(reply.data)
            if "error" in answer:
                raise stream_errors.APIError.from_error(answer["error"])
            return answer

    async def pull_consumer(self, stream: str, consumer: str, *, ack_wait: float) -> PullConsumer:
        """A consumer of a stream. Creates it if it does not exist. Raises ``StreamError``."""
        try:
            found = await self.request(f"CONSUMER.INFO.{stream}.{consumer}")
        except NoStreamError:
            config = {
                "name": consumer,
                "durable_name": consumer,
                "ack_policy": "explicit",
                "ack_wait": int(ack_wait * 1_000_000_000),
                "max_deliver": -1,
                "deliver_policy": "all",
                "replay_policy": "instant",
                "max_ack_pending": 1000,
            }
            subject = f"CONSUMER.CREATE.{stream}.{consumer}"
            found = await self.request(subject, {"stream_name": stream, "config": config})
        with _translated():
            subscription = await self._client.subscribe(self._client.new_inbox())
        subject = f"{_API}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        return PullConsumer(self._client, subscription, subject, found["config"].get("max_deliver", -1))

    async def acknowledge(self, messages: Sequence[Msg]) -> None:
        """Acknowledge messages: JetStream does not redeliver them. Raises ``StreamError``."""
        with _translated():
            for each in messages:
                await each.ack()

    async def nak(self, messages: Sequence[Msg]) -> None:
        """Negatively acknowledge messages: JetStream redelivers them at once. Raises ``StreamError``."""
        with _translated():
            for each in messages:
                await each.nak()

    async def in_progress(self, messages: Sequence[Msg]) -> None:
        """Extend the time to acknowledge messages (``ack_wait``). Raises ``StreamError``."""
        with _translated():
            for each in messages:
                if not each.is_acked:
                    await each.in_progress()

    async def flush(self) -> None:
        """Wait until the server has received everything, such as acknowledgements. Raises ``StreamError``."""
        with _translated():
            await self._client.flush(int(ANSWER_S))

    async def close(self) -> None:
        """Close the connection. Messages and acknowledgements that were not flushed may be lost."""
        with suppress(Exception):
            async with asyncio.timeout(_CONNECT_S):
                await self._client.close()


class PullConsumer:
    """Fetches messages of a pull consumer. One request stays open, so a new message is delivered at once.

    nats-py's ``fetch()`` waits for its whole time limit if there are fewer messages than it asked for.
    """

    def __init__(self, client: Client, subscription: Subscription, subject: str, max_deliver: int) -> None:
        self._client = client
        self._subscription = subscription
        self._subject = subject
        #: JetStream stops redelivering a message after this number of deliveries; -1: no limit.
        self.max_deliver = max_deliver
        #: How many messages the open request can still get.
        self._requested = 0

    async def fetch(self, most: int, seconds: float) -> list[Msg]:
        """Wait up to ``seconds`` for messages. Raises ``StreamError``, also if the consumer was deleted."""
        with _translated():
            if self._requested <= 0:
                self._requested = most
                request = json.dumps({"batch": most, "expires": int(seconds * 1_000_000_000)})
                await self._client.publish(self._subject, request.encode(), self._subscription.subject)
            found: list[Msg] = []
            try:
                while not found or (self._subscription.pending_msgs and len(found) < most):
                    message = await self._subscription.next_msg(seconds + _GRACE_S)
                    if not self._is_data(message):
                        break
                    found.append(message)
            except TimeoutError:
                # The answer was lost, for example because the connection was.
                self._requested = 0
            return found

    def _is_data(self, message: Msg) -> bool:
        # Not by its status: a publisher can send a header of this name.
        if message.reply:
            self._requested -= 1
            return True
        # The request has ended: it timed out, or the consumer has a new leader or was deleted.
        self._requested = 0
        if (message.headers or {}).get("Status") == _NO_CONSUMER:
            raise errors.NoRespondersError
        return False

    async def end(self) -> list[Msg]:
        """Unsubscribe, and return the messages that have already arrived. Raises ``StreamError``."""
        with _translated():
            # After the answer to the flush, the server sends no message. unsubscribe() alone would discard
            # those on their way, and JetStream would redeliver them after ack_wait only.
            await self._client._send_unsubscribe(self._subscription._id)  # noqa: SLF001
            await self._client.flush(int(ANSWER_S))
            left = []
            while self._subscription.pending_msgs:
                message = await self._subscription.next_msg(_GRACE_S)
                left += [message] if self._is_data(message) else []
            await self._subscription.unsubscribe()
            return left


async def connect(address: StreamAddress, name: str) -> Connection:
    """Connect to one of the servers. Raises ``StreamError``. ``name`` is shown by the server's monitoring."""
    client = _Client()
    client.requires_tls = address.requires_tls
    last: list[Exception] = []

    async def note(error: Exception) -> None:
        last[:] = [error]
        # nats-py would wait forever for a connection whose TLS handshake failed.
        if isinstance(error, ssl.SSLError) and not client.is_connected:
            raise error

    scheme = "tls" if address.requires_tls else "nats"
    login: dict[str, Any] = {"user_credentials": address.credentials} if address.credentials else {}
    if address.has_login:
        is_token = address.password is None
        login |= {"token": address.user} if is_token else {"user": address.user, "password": address.password}
    try:
        async with asyncio.timeout(_CONNECT_ALL_S):
            await client.connect(
                [f"{scheme}://{each}" for each in address.servers],
                name=f"{name} (usersync {__version__})",
                error_cb=note,
                connect_timeout=_CONNECT_S,
                # nats-py then waits for the answer to its login before it sends more. A server that refuses
                # the login may otherwise reset the connection, and its reason is lost.
                verbose=True,
                reconnect_time_wait=_AGAIN_S,  # type: ignore[arg-type]
                max_reconnect_attempts=2,
                ping_interval=_PING_S,
                max_outstanding_pings=_UNANSWERED_PINGS,
                tls=_tls(address),
                **login,
            )
    except Exception as error:  # noqa: BLE001 - an invalid file or answer raises anything
        is_general = isinstance(error, errors.NoServersError | TimeoutError)
        cause = last[0] if is_general and last else error
        if isinstance(cause, OSError | ValueError | errors.Error | TimeoutError):
            reason = _reason(cause)
        else:
            what = "the file of credentials" if address.credentials else "the greeting of the server"
            reason = f"{what} is not valid ({type(cause).__name__})"
        problem = StreamError(f"cannot connect to {address}: {reason}")
    else:
        return Connection(client)
    await Connection(client).close()
    # Not chained: the client's frames in the traceback contain the login.
    raise problem


def _tls(address: StreamAddress) -> ssl.SSLContext | None:
    if not (address.requires_tls or address.ca or address.certificate):
        return None
    context = ssl.create_default_context(cafile=address.ca)
    if address.certificate:
        context.load_cert_chain(address.certificate, address.key)
    return context


class _translated:  # noqa: N801 - used as a context manager, like contextlib.suppress
    """Turns errors of nats-py into ``StreamError``."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, StreamError):
            return
        if isinstance(
            error,
            (stream_errors.NoStreamResponseError, stream_errors.NotFoundError, errors.NoRespondersError),
        ):
            raise NoStreamError(f"no stream or consumer answers: {_reason(error)}") from None
        if isinstance(error, stream_errors.APIError) and error.err_code == _TOO_LARGE:
            raise TooLargeError(_reason(error)) from None
        if isinstance(error, errors.MaxPayloadError):
            raise TooLargeError("the message is larger than the server allows") from None
        if isinstance(error, errors.Error | OSError | TimeoutError | ValueError):
            raise StreamError(_reason(error)) from None


#: "message size exceeds maximum allowed"
_TOO_LARGE = 10054


def _reason(error: BaseException) -> str:
    if isinstance(error, stream_errors.APIError) and error.description:
        text = f"{error.description} ({error.err_code})"
    elif isinstance(error, TimeoutError):
        text = "no answer in time"
    else:
        text = str(error).removeprefix("nats: ").strip("'\"") or type(error).__name__
    return " ".join(text.split())[:300]
