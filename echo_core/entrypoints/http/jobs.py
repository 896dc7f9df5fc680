"""Jobs over HTTP."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.jobs import cancel_job, get_job, retry_job
from echo_core.domain.ids import JobId
from echo_core.entrypoints.http import examples, responses, views
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.parameters import path_uuid, read_body
from echo_core.entrypoints.http.requests import RetryRequest
from echo_core.entrypoints.http.state import services_of, user_of


async def _get(request: Request) -> Response:
    view = await get_job(services_of(request), user_of(request), JobId(path_uuid(request, "jobId")))
    return responses.json_response(views.job(view))


async def _cancel(request: Request) -> Response:
    view = await cancel_job(services_of(request), user_of(request), JobId(path_uuid(request, "jobId")))
    return responses.json_response(views.job(view), 202)


async def _retry(request: Request) -> Response:
    job_id = JobId(path_uuid(request, "jobId"))
    body = await read_body(request, RetryRequest)
    view = await retry_job(services_of(request), user_of(request), job_id, step_name=body.step)
    return responses.json_response(views.job(view), 202)


OPERATIONS = (
    Operation(
        id="getJob",
        method="GET",
        path="/api/v1/videos/jobs/{jobId}",
        handler=_get,
        summary="How far a job is",
        tag="jobs",
        answers={200: Answer(description="The job with its steps.", model=responses.Job, example=examples.JOB)},
        problems={404: ("not_found",)},
    ),
    Operation(
        id="cancelJob",
        method="POST",
        path="/api/v1/videos/jobs/{jobId}/cancel",
        handler=_cancel,
        summary="Cancel a job",
        description="Waiting steps end at once, running ones within about a second. Asking again changes nothing.",
        tag="jobs",
        answers={202: Answer(description="It is being stopped.", model=responses.Job, example=examples.JOB)},
        problems={404: ("not_found",), 409: ("job_finished",)},
    ),
    Operation(
        id="retryJob",
        method="POST",
        path="/api/v1/videos/jobs/{jobId}/retry",
        handler=_retry,
        summary="Run a job again",
        description=(
            "Without `step`: what failed or was cancelled, and all that depends on it; everything, if nothing did. "
            "With `step`: that one and all that depends on it. Always possible on a finished job."
        ),
        tag="jobs",
        body=RetryRequest,
        body_optional=True,
        body_example={"step": "ladder"},
        answers={202: Answer(description="It runs again.", model=responses.Job, example=examples.JOB)},
        problems={404: ("not_found",), 409: ("job_unfinished",), 422: ("unknown_step",)},
    ),
)
