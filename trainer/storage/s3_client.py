"""One request to S3: sent, tried again with backoff, and what goes wrong in one line that says where.

boto3 tries again what fails before an answer has begun. What breaks off later or arrives damaged is tried again here, and so is half
an answer that Python's HTTP client takes for a whole one.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections.abc import Iterator
from typing import Any

from trainer.errors import HeadwayError, UserError

CONNECTIONS = 32
DAMAGED = ("BadDigest", "XAmzContentSHA256Mismatch")  # on its way up, as the server noticed
AGAIN = (*DAMAGED, "ConditionalRequestConflict", "OperationAborted")  # the same, or it met another write
UNKNOWN = ("NotImplemented", "MethodNotAllowed")
ELSEWHERE = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException")
PASSING = ("RequestTimeout", "IncompleteBody", "InvalidPart", "InvalidPartOrder", "EntityTooSmall", *DAMAGED)
RENEWED = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "TokenRefreshRequired")
NEXT = {  # lists: what is given for the next page, and where the one before tells it
    "list_objects_v2": {"ContinuationToken": "NextContinuationToken"},
    "list_objects": {"Marker": "NextMarker"},
    "list_multipart_uploads": {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"},
}


class Conflict(HeadwayError):
    """A condition of a write doesn't hold: somebody else wrote meanwhile."""


class Missing(HeadwayError):
    """There is no such object."""


class Damaged(HeadwayError):
    """What arrived isn't what was stored, again and again."""


class Unknown(HeadwayError):
    """The server doesn't know what it is asked: an operation, or a header."""


class Refused(UserError):
    """The server doesn't take what it is asked, for another reason than rights."""


class Client:
    """Requests about the objects below one key of a bucket. May be used by several threads at once.

    Raises UserError for what a person must change (bucket, credentials, rights), Conflict, Missing or Damaged as they say, and
    HeadwayError for all else, when trying again didn't help.
    """

    def __init__(self, bucket: str, key: str, attempts: int) -> None:
        self.bucket, self.key = bucket, key
        self.within = f"{key}/" if key else ""  # what the keys begin with
        self._url, self._attempts = f"s3://{bucket}/{key}", attempts
        self.boto = _boto(attempts)
        self.answered = time.monotonic()  # when the server last said something that isn't an error of its own

    @property
    def endpoint(self) -> str:
        return str(self.boto.meta.endpoint_url)

    def call(self, operation: str, name: str | None, **parameters: Any) -> dict[str, Any]:
        """The answer to an operation on an object, or on the bucket (name None)."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        if name is not None:
            parameters["Key"] = self.within + name
        renewed = False
        for attempt in range(self._attempts):
            self._back_off(attempt)
            with self.telling(name or ""):
                try:
                    answer: dict[str, Any] = getattr(self.boto, operation)(Bucket=self.bucket, **parameters)
                    self.answered = time.monotonic()
                    if operation not in NEXT or "IsTruncated" in answer:
                        return answer  # else not an empty list, but none
                except self.boto.exceptions.ClientError as error:
                    code = _code(error)
                    if code in RENEWED and not renewed:  # whoever keeps the credentials may have put new ones there
                        renewed, self.boto = True, _boto(self._attempts)
                    elif code not in (AGAIN if operation == "put_object" else DAMAGED):
                        raise
                except HTTPError as error:  # the body of an answer that says no broke off
                    if isinstance(error, BotoCoreError):
                        raise
        raise self.cut_off(name or "")

    def receive(self, name: str, length: int | None = None, **parameters: Any) -> tuple[bytes, dict[str, Any]]:
        """An object's content, or a range of it, asked for again if it breaks off."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        reason = ""
        for attempt in range(self._attempts):
            self._back_off(attempt)
            answer = self.call("get_object", name, **parameters)
            try:
                data = answer["Body"].read()
            except (BotoCoreError, HTTPError, OSError) as error:  # cut off, reset, too slow, or with another checksum
                reason = str(error)
                continue
            expected = answer.get("ContentLength") if length is None else length
            if len(data) == expected and etag_of(answer):
                return data, answer
            reason = f"{len(data)} bytes arrived"
        raise Damaged(f"{self.where(name)} arrived incomplete {self._attempts} times: {reason}")

    def pages(self, operation: str, prefix: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The answers to a list."""
        markers: dict[str, str] = {}
        while True:
            page = self.call(operation, None, Prefix=self.within + prefix, **parameters, **markers)
            yield page
            if not page["IsTruncated"]:
                return
            before = markers
            operation, markers = _following(operation, page)
            if not all(markers.values()) or markers == before:
                raise HeadwayError(f"{self.where(prefix)}: {self.endpoint} lists a part, and not where it goes on")

    def _back_off(self, attempt: int) -> None:
        if attempt:
            time.sleep(random.random() * min(20.0, 0.05 * 2**attempt))

    def where(self, name: str) -> str:
        return f"{self._url}/{name}".rstrip("/")

    def cut_off(self, name: str) -> Damaged:
        return Damaged(f"{self.where(name)}: what was sent, or the answer to it, did not arrive whole")

    @contextlib.contextmanager
    def telling(self, name: str) -> Iterator[None]:
        """Makes one line of what boto3 raises, once it has tried often enough."""
        from botocore import exceptions as boto

        where, endpoint = self.where(name), self.boto.meta.endpoint_url
        try:
            yield
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`"
            raise UserError(f"{where}: no credentials for S3 were found ({error}); {hint}") from None
        except boto.ClientError as error:
            raise _told(error, where, self.bucket, endpoint) from None
        except boto.EndpointConnectionError:
            raise HeadwayError(f"{where}: {endpoint} can't be reached") from None
        except (boto.HTTPClientError, boto.ConnectionError) as error:
            raise HeadwayError(f"{where}: {endpoint} can't be reached: {error}") from None
        except boto.ParamValidationError as error:  # a bucket's name that can't be one
            raise UserError(f"{where}: {' '.join(str(error).split())}") from None
        except boto.BotoCoreError as error:
            raise HeadwayError(f"{where}: {error}") from None


def etag_of(answer: dict[str, Any]) -> str | None:
    """None if it was cut off: Python's HTTP client takes headers that end in the middle for all there are."""
    etag = str(answer.get("ETag", ""))
    quoted = etag.removeprefix("W/")
    if quoted.startswith('"'):
        return etag if len(quoted) > 2 and quoted.endswith('"') else None
    return etag if re.fullmatch(r"[0-9a-f]{32}(-\d+)?", etag) else None  # of a server that knows no quotes


def _following(operation: str, page: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """How a list goes on. A server of old takes a list of the second version for one of the first."""
    if operation == "list_objects_v2" and "NextContinuationToken" not in page:
        operation = "list_objects"
    markers = {given: str(page.get(told) or "") for given, told in NEXT[operation].items()}
    if markers == {"Marker": ""}:  # which is told only of lists by folders
        markers = {"Marker": next((str(item["Key"]) for item in reversed(page.get("Contents", ()))), "")}
    return operation, markers


def _code(error: Any) -> str:
    return str(error.response["Error"].get("Code"))


def _told(error: Any, where: str, bucket: str, endpoint: str) -> HeadwayError:
    code, message = _code(error), error.response["Error"].get("Message") or ""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    operation, said = error.operation_name, f"{code}: {message}" if message else code
    if code == "NoSuchBucket":
        return UserError(f"{where}: there is no bucket {bucket!r} at {endpoint}")
    if status in (409, 412):
        return Conflict(f"{where}: {message or code}")
    if status == 404:
        return Missing(f"{where}: there is no such object")
    if code in ELSEWHERE or status == 301:
        return UserError(f"{where}: the bucket is of another region: {said}; set AWS_DEFAULT_REGION")
    if status in (401, 403) or code in ("ExpiredToken", "InvalidToken"):
        return UserError(f"{where}: {operation} is not allowed: {said}; check the credentials and their rights")
    if status == 501 or code in UNKNOWN:
        return Unknown(f"{where}: {endpoint} doesn't know this {operation}: {said}")
    if 400 <= status < 500 and status not in (408, 429) and code not in PASSING:
        return Refused(f"{where}: {operation} was refused at {endpoint}: {said}")
    return HeadwayError(f"{where}: {operation} failed at {endpoint}: {said}")


def _boto(attempts: int) -> Any:
    try:
        import boto3
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise UserError("s3:// paths need boto3, which isn't installed: pip install boto3") from None
    try:
        core = botocore.session.get_session()
        session, profile = boto3.session.Session(botocore_session=core), core.get_scoped_config()
        own_server = {"endpoint_url", "services"} & set(profile) or any(
            os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
        )
        styled = "addressing_style" in (profile.get("s3") or {})
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=CONNECTIONS,
            request_checksum_calculation="when_required",  # what is written says itself which it has
            s3={"addressing_style": "path"} if own_server and not styled else None,
        )
        region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
        return session.client("s3", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:  # a profile that isn't there, an endpoint that is no URL
        raise UserError(f"S3: {error}") from None
