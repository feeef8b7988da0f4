"""A small model behind vLLM's OpenAI server: the `openai` rung with vLLM's spelling (`wire.vllm`), at home by default."""

from typing import Any, Literal

from pydantic import Field

from backends.base import BackendResources
from backends.openai import OpenAI, OpenAIConfig
from wire import vllm
from wire.errors import BackendError
from wire.types import Call


class VllmConfig(OpenAIConfig):
    """`kind: vllm`."""

    base_url: str = Field("http://127.0.0.1:8000/v1", description="URL up to and without /chat/completions")
    adapter: str | None = Field(None, min_length=1, description="LoRA adapter: the model name that is sent when set")
    modalities: tuple[Literal["text", "image", "audio", "file"], ...] = ("text",)
    cloud: bool = False

    def digest(self) -> str:
        return self.adapter or super().digest()


class Vllm(OpenAI):
    """See the module."""

    Config = VllmConfig

    def __init__(self, name: str, config: VllmConfig, resources: BackendResources) -> None:
        super().__init__(name, config, resources)
        self._adapter = config.adapter

    def spelled(self, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        """Raises Unsupported for what vLLM cannot do at all."""
        return vllm.request({**body, "model": self._adapter or body["model"]}, call.constraint)

    def judge(self, call: Call, exc: BackendError) -> BackendError:
        """A grammar that this server cannot compile is Unsupported: another rung may be able to."""
        return vllm.judge(exc, call.constraint is not None)
