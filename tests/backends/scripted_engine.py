"""A vLLM that the test writes: health, metrics, models, adapters and answers as it sets them, in the shapes of 0.32."""

import asyncio
from typing import Any

import orjson

from tests.backends.upstream import Asked, event

DOCUMENT = {"zq_kind": "xk2_plim", "zq_code": "ABCD-123", "zq_inner": {"zq_level": 417, "zq_on": True}}
"""What fits the schema of `backends._probe`."""
POEM = "The sea is wide and blue, and so are you."


class ScriptedEngine:
    def __init__(self, base: str = "tiny", root: str = "/models/tiny") -> None:
        self.base, self.root = base, root
        self.health = 200
        self.started = 1000.0
        self.waiting = self.running = self.kv = 0.0
        self.adapters: dict[str, str] = {}
        """Name > the path that it was loaded from."""
        self.may_load = True
        self.obeys = True
        """False: constraints are accepted and ignored."""
        self.refuses = ""
        """A body field that is answered with 400."""
        self.late = 0.0
        """Seconds before /metrics answers."""
        self.chat_status = 200
        self.tells = POEM
        self.seen: list[str] = []
        """Method and path, in order."""
        self.bodies: list[Any] = []
        """Of the chat requests."""

    def chats(self) -> int:
        return len(self.bodies)

    async def __call__(self, asked: Asked) -> None:
        verb, path, _ = asked.line.split(" ", 2)
        self.seen.append(f"{verb} {path}")
        if path == "/health":
            await asked.answer(b"", status=self.health)
        elif path == "/metrics":
            await asyncio.sleep(self.late)
            await asked.answer(self._metrics().encode(), headers={"content-type": "text/plain"})
        elif path == "/version":
            await asked.answer(b'{"version":"0.32.0"}')
        elif path == "/v1/models":
            await asked.answer(orjson.dumps({"object": "list", "data": self._cards()}))
        elif path.endswith("_lora_adapter"):
            await self._lora(asked, path)
        else:
            await self._chat(asked)

    def _metrics(self) -> str:
        return (
            "# HELP vllm:num_requests_running x\n# TYPE vllm:num_requests_running gauge\n"
            f'vllm:num_requests_running{{engine="0",model_name="tiny"}} {self.running}\n'
            f'vllm:num_requests_waiting{{engine="0",model_name="tiny"}} {self.waiting}\n'
            f'vllm:num_requests_waiting_by_reason{{engine="0",reason="capacity"}} 77.0\n'
            f'vllm:kv_cache_usage_perc{{engine="0",model_name="tiny"}} {self.kv}\n'
            f"process_start_time_seconds {self.started}\n"
        )

    def _cards(self) -> list[dict[str, Any]]:
        cards: list[dict[str, Any]] = [{"id": self.base, "root": self.root, "parent": None, "max_model_len": 1024}]
        return cards + [
            {"id": name, "root": path, "parent": self.base, "max_model_len": None}
            for name, path in self.adapters.items()
        ]

    async def _lora(self, asked: Asked, path: str) -> None:
        if not self.may_load:
            await asked.answer(b'{"detail":"Not Found"}', status=404)
            return
        name = asked.json["lora_name"]
        if path == "/v1/unload_lora_adapter":
            del self.adapters[name]
        elif name in self.adapters and not asked.json["load_inplace"]:
            await asked.answer(b'{"error":{"message":"has already been loaded","code":400}}', status=400)
            return
        else:
            self.adapters[name] = asked.json["lora_path"]
        await asked.answer(b"Success", headers={"content-type": "text/plain"})

    async def _chat(self, asked: Asked) -> None:
        body = asked.json
        self.bodies.append(body)
        if self.chat_status != 200:
            await asked.answer(b'{"error":{"message":"no","code":503}}', status=self.chat_status)
        elif body["model"] not in (self.base, *self.adapters):
            message = f"The model `{body['model']}` does not exist."
            await asked.answer(orjson.dumps({"error": {"message": message, "code": 404}}), status=404)
        elif self.refuses and self.refuses in body:
            message = "The provided JSON schema contains features not supported by xgrammar."
            await asked.answer(orjson.dumps({"error": {"message": message, "code": 400}}), status=400)
        else:
            await self._say(asked, body)

    async def _say(self, asked: Asked, body: Any) -> None:
        text, calls = self._answer(body)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = calls
        logprobs = {"content": _tokens(text, self.obeys)} if body.get("logprobs") else None
        if body.get("stream"):
            first = {"index": 0, "delta": message, "logprobs": logprobs, "finish_reason": None}
            last = {"index": 0, "delta": {}, "finish_reason": "stop"}
            await asked.stream(event({"choices": [first]}), event({"choices": [last]}), event("[DONE]"))
            return
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        await asked.answer(orjson.dumps({"choices": [choice], "usage": usage}))

    def _answer(self, body: Any) -> tuple[str, list[Any]]:
        document = orjson.dumps(DOCUMENT).decode()
        if not self.obeys:
            return self.tells, []
        if body.get("tools") and body.get("tool_choice") != "auto":
            function = {"name": body["tools"][0]["function"]["name"], "arguments": document}
            return "", [{"id": "c1", "type": "function", "function": function}]
        asked = body.get("structured_outputs") or {}
        if "choice" in asked:
            return asked["choice"][0], []
        if "regex" in asked:
            return "ABCD-123", []
        return (document, []) if "response_format" in body else (self.tells, [])


def _tokens(text: str, masked: bool) -> list[dict[str, Any]]:
    other = {"token": "x", "logprob": -9999.0 if masked else -3.0}
    own = {"logprob": -0.1}
    return [
        {"token": token, **own, "top_logprobs": [{"token": token, **own}, other]} for token in [*text, "<|im_end|>"]
    ]
