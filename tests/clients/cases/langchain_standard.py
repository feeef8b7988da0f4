"""LangChain's own standard integration tests for chat models, over chat completions and over responses."""

import os

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class _Weir(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_model_override(self):
        return True

    @property
    def model_override_value(self):
        return "gpt-4.1-mini"

    @property
    def chat_model_params(self):
        return {
            "model": os.environ["WEIR_TEST_MODEL"],
            "base_url": os.environ["OPENAI_BASE_URL"],
            "api_key": "none",
            "stream_usage": True,
            "max_retries": 0,
        }


class TestChat(_Weir):
    @property
    def chat_model_params(self):
        return {**super().chat_model_params, "use_responses_api": False}


class TestResponses(_Weir):
    @property
    def chat_model_params(self):
        return {**super().chat_model_params, "use_responses_api": True}
