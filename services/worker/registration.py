"""Announces this worker to one router, again and again; the router dials back. It opens no link itself."""

import asyncio

import grpc
import grpc.aio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from services.kit.cancellation import heed_cancellation
from services.kit.channels import dial
from services.kit.errors import duration_to_seconds, from_rpc
from services.kit.settings.shared import GrpcSettings
from weft.router.v1 import router_pb2, router_pb2_grpc

# A router that does not answer within this time counts as away.
ANSWER_LIMIT_S = 5.0
# Longest wait between two tries while a router is away.
RETRY_LIMIT_S = 1.0
# Shortest period that a router can ask for, so that a zero in its answer is no busy loop.
PERIOD_FLOOR_S = 0.05


class Registration:
    """One router's. `run` never returns; whoever started it cancels it."""

    def __init__(self, router: str, worker_id: str, address: str, settings: GrpcSettings) -> None:
        self._router = router
        self._request = router_pb2.RegisterWorkerRequest(worker_id=worker_id, address=address)
        self._settings = settings
        self._known: bool | None = None
        self._log = structlog.get_logger("registration").bind(router=router, address=address)

    def __repr__(self) -> str:
        return f"Registration({self._router} known={self._known})"

    async def run(self) -> None:
        """Announces, waits for as long as the router says, and announces again."""
        async with dial(self._router, self._settings) as channel:
            retrying = AsyncRetrying(
                retry=retry_if_exception_type(grpc.aio.AioRpcError),
                wait=wait_random_exponential(multiplier=0.2, max=RETRY_LIMIT_S),
                before_sleep=self._away,
            )
            while True:
                answer: router_pb2.RegisterWorkerResponse = await retrying(self._announce, channel)
                await asyncio.sleep(max(duration_to_seconds(answer.repeat_after), PERIOD_FLOOR_S))

    async def _announce(self, channel: grpc.aio.Channel) -> router_pb2.RegisterWorkerResponse:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        try:
            answer = await stub.RegisterWorker(self._request, timeout=ANSWER_LIMIT_S)
        except grpc.aio.AioRpcError as error:
            # Tried again for ever otherwise, while whoever cancelled this waits for its end.
            heed_cancellation(error)
            raise
        if self._known is not True:
            self._known = True
            self._log.info("registered", router_id=answer.router_id)
        return answer

    def _away(self, state: RetryCallState) -> None:
        """Says so once; the tries that follow are silent until the router is back."""
        error = state.outcome.exception() if state.outcome else None
        if self._known is not False and isinstance(error, grpc.aio.AioRpcError):
            self._known = False
            failure = from_rpc(error)
            self._log.warning("router away", code=failure.code.name, message=failure.message)
