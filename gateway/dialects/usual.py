"""The shape of nearly all chat bodies, with which nothing is wrong: one call of `msgspec.convert` says so (0.7 us instead of 3).

It decides nothing. What it takes, `chat.carefully` takes, and makes the same of it; what it refuses may still be right, and if not,
`carefully` has the words. Each message and each part is told by its `role` and `type`; a field of type `_Object` is any object.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

TOKENS = 2**31
"""The most tokens that may be asked for."""


class _Object(Struct, gc=False):
    """Any object."""


class _Text(Struct, tag_field="type", tag="text", gc=False):
    text: str


class _Image(Struct, tag_field="type", tag="image_url", gc=False):
    pass


class _Audio(Struct, tag_field="type", tag="input_audio", gc=False):
    pass


class _File(Struct, tag_field="type", tag="file", gc=False):
    pass


class _Refusal(Struct, tag_field="type", tag="refusal", gc=False):
    pass


_Content = str | list[_Text | _Image | _Audio | _File | _Refusal]


class _User(Struct, tag_field="role", tag="user", gc=False):
    content: _Content


class _System(_User, tag="system", gc=False):
    pass


class _Developer(_User, tag="developer", gc=False):
    pass


class _Assistant(Struct, tag_field="role", tag="assistant", gc=False):
    content: _Content | None = None
    tool_calls: list[_Object] | None = None


class _Result(_User, tag="tool", gc=False):
    tool_call_id: str


class _Function(Struct, gc=False):
    name: Annotated[str, Meta(min_length=1)]
    parameters: _Object | None = None


class _Tool(Struct, gc=False):
    function: _Function


class _Options(Struct, gc=False):
    include_usage: bool | None = None


class Usual(Struct, gc=False):
    """The body, and in it what this program reads or bounds. Other fields may be there."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_User | _System | _Developer | _Assistant | _Result], Meta(min_length=1)]
    tools: list[_Tool] | None = None
    functions: None = None
    function_call: None = None
    response_format: Any = None
    """Left to `chat.constraint_of`."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=0, le=TOKENS)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stop: str | list[str] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Object | None = None
    stream: bool | None = None
    stream_options: _Options | None = None
    logprobs: bool | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
