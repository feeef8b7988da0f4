"""`auth: passthrough`: a rung that is asked with the caller's own key. It goes into one header, to that rung's fixed `base_url`, and
nowhere else.

Then, and only then, a 401 or 403 of the upstream is the caller's own affair.
"""

from msgspec import Struct

from wire.errors import BackendError, Refused


class Presented(Struct, frozen=True):
    """The caller's key without its scheme, and whether it came as `Bearer`."""

    key: str
    bearer: bool

    def __repr__(self) -> str:
        return f"Presented('***', bearer={self.bearer})"


def presented(name: str, credential: str) -> Presented:
    """`Call.credential`, read. Raises Refused (401) when the caller sent no key but Weir's own."""
    if not credential:
        raise Refused(
            f"{name} is asked with your own key: send it as Authorization: Bearer, or in x-api-key beside Weir's",
            status=401,
            code="invalid_api_key",
        )
    key = credential.removeprefix("Bearer ")
    return Presented(str(key), key != credential)


def judged(name: str, exc: BackendError) -> BackendError:
    """A refused key is ours and none of the caller's business (502); here it is the caller's, who is told so."""
    if exc.status not in (401, 403) or isinstance(exc, Refused):
        return exc
    return Refused(
        f"{name}: the upstream refuses the caller's own key ({exc.status})",
        status=exc.status,
        body=exc.body,
        head=exc.head,
        code=exc.code,
        param=exc.param,
        detail=exc.detail,
    )
