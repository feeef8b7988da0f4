"""openai-python and langchain-openai over embeddings."""

import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from openai import OpenAI

MODEL = "text-embedding-3-small"


@pytest.fixture(scope="module")
def client():
    with OpenAI(max_retries=0) as made:
        yield made


def test_float_and_base64_are_the_same(client):
    """The SDK asks for base64 by itself: the same numbers as in JSON."""
    plain = client.embeddings.create(model=MODEL, input="hello", encoding_format="float").data[0].embedding
    packed = client.embeddings.create(model=MODEL, input="hello").data[0].embedding
    assert plain == pytest.approx(packed, abs=1e-6)
    assert any(plain)


def test_several_inputs_keep_their_order(client):
    """One vector for each input, in order."""
    both = client.embeddings.create(model=MODEL, input=["hello", "goodbye"]).data
    alone = client.embeddings.create(model=MODEL, input="goodbye").data[0]
    assert [row.index for row in both] == [0, 1]
    assert both[1].embedding == pytest.approx(alone.embedding, abs=1e-6)
    assert both[0].embedding != pytest.approx(both[1].embedding, abs=1e-3)


def test_token_arrays(client):
    """Token ids instead of text."""
    assert len(client.embeddings.create(model=MODEL, input=[[1, 2, 3], [4]]).data) == 2


def test_langchain():
    """LangChain's class, with texts."""
    made = OpenAIEmbeddings(model=MODEL, check_embedding_ctx_length=False)
    assert len(made.embed_documents(["hello", "goodbye"])) == 2


def test_errors_are_typed(client):
    """An empty input is a mistake of the caller."""
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=MODEL, input=[])
