"""Answers of the stand-in to the calls of the client's API: ``<method> {JSON}`` to JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.standin.backend import Account, ApiError, Backend

Request = dict[str, Any]
Answer = dict[str, Any]


@dataclass(frozen=True)
class Redirect:
    """An answer that sends the client to another address."""

    address: str


def answer_call(
    backend: Backend, method: str, request: Request, account: Account, fault: str = ""
) -> Answer | Redirect:
    """Answer one call.

    Args:
        backend: the state of the stand-in.
        method: name of the method.
        request: its JSON body.
        account: who calls.
        fault: a kind of fault that concerns submissions: "pending", "error" or "lose".

    Raises:
        ApiError: the call is refused.
    """
    if method == "CreateSubmission":
        return _create_submission(backend, request, account, fault)
    if method not in _METHODS:
        raise ApiError(404, f"The stand-in does not know {method}")
    return _METHODS[method](backend, request, account)


def _list_competitions(backend: Backend, request: Request, account: Account) -> Answer:
    row = {
        "ref": f"https://www.kaggle.com/competitions/{backend.slug}",
        "userHasEntered": account.accepted_rules,
    }
    words = request.get("search", "").split()
    return {"competitions": [row] if all(word in backend.slug for word in words) else []}


def _list_files(backend: Backend, request: Request, account: Account) -> Answer:
    backend.require_access(account, request.get("competitionName", ""))
    names = sorted(backend.files)
    start = int(request.get("pageToken") or 0)
    end = start + backend.page_size
    files = [
        {
            "ref": name,
            "name": name,
            "totalBytes": backend.files[name].stat().st_size,
            "creationDate": "2017-07-25T00:00:00Z",
        }
        for name in names[start:end]
    ]
    return {"files": files, "nextPageToken": str(end) if end < len(names) else ""}


def _download_file(backend: Backend, request: Request, account: Account) -> Redirect:
    backend.require_access(account, request.get("competitionName", ""))
    if request["fileName"] not in backend.files:
        raise ApiError(404, "Not found")
    # The address carries a secret, as Kaggle's signed addresses do.
    return Redirect(f"http://localhost/files/{request['fileName']}?X-Signature={account.key}")


def _start_upload(backend: Backend, request: Request, account: Account) -> Answer:
    token = backend.start_upload(account, request.get("competitionName", ""), request["fileName"])
    return {"token": token, "createUrl": f"http://localhost/upload/{token}"}


def _create_submission(backend: Backend, request: Request, account: Account, fault: str) -> Answer:
    slug, message = request.get("competitionName", ""), request.get("submissionDescription", "")
    submission = backend.create_submission(account, slug, request["blobFileTokens"], message)
    if fault == "lose":
        backend.submissions.remove(submission)
    elif fault != "pending":
        failure = "Evaluation Exception: something is wrong" if fault == "error" else ""
        backend.start_scoring(submission, failure)
    return {"message": f"Successfully submitted to {backend.slug}", "ref": submission.ref}


def _list_submissions(backend: Backend, request: Request, account: Account) -> Answer:
    backend.require_access(account, request.get("competitionName", ""))
    own = [submission for submission in reversed(backend.submissions) if submission.account == account.name]
    return {"submissions": [submission.to_row() for submission in own]}


def _submission_limits(backend: Backend, request: Request, account: Account) -> Answer:
    backend.require_access(account, request.get("competitionName", ""))
    return dict(backend.submission_limits(account))


def _leaderboard(backend: Backend, request: Request, account: Account) -> Answer:
    backend.require_access(account, request.get("competitionName", ""))
    return {"submissions": backend.leaderboard()}


def _save_kernel(backend: Backend, request: Request, account: Account) -> Answer:
    backend.require_access(account, request.get("competitionDataSources", [""])[0])
    backend.pushed_kernels.append(request)
    slug, version = request["slug"], len(backend.pushed_kernels)
    return {"ref": slug, "url": f"/code/{slug}", "versionNumber": version}


_METHODS: dict[str, Callable[[Backend, Request, Account], Answer | Redirect]] = {
    "ListCompetitions": _list_competitions,
    "ListDataFiles": _list_files,
    "DownloadDataFile": _download_file,
    "StartSubmissionUpload": _start_upload,
    "ListSubmissions": _list_submissions,
    "GetSubmissionLimits": _submission_limits,
    "GetLeaderboard": _leaderboard,
    "SaveKernel": _save_kernel,
}
