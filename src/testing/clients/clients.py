"""Drives the Python clients for the tests: one JSON request a line in, one JSON answer a line out.

A request is {"client", "url", "texts"}; an answer is {"vectors"} or {"error"}, the latter as whoever prints the
exception reads it.
"""

import json
import logging
import os
import sys
import threading
import warnings

# Haystack and LiteLLM log each failure that they raise as well, and LiteLLM prints an advertisement.
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
answers, sys.stdout = sys.stdout, open(os.devnull, "w")


def openai_python(url, texts):
    from openai import OpenAI

    client = OpenAI(base_url=url + "/v1", api_key="unused")
    # Without encoding_format it asks for base64 by itself, and decodes it.
    reply = client.embeddings.create(model="bge-m3", input=texts)
    return [row.embedding for row in reply.data]


def langchain_openai(url, texts):
    from langchain_openai import OpenAIEmbeddings

    client = OpenAIEmbeddings(
        base_url=url + "/v1", api_key="unused", model="bge-m3", check_embedding_ctx_length=False
    )
    return client.embed_documents(texts)


def langchain_openai_by_default(url, texts):
    """It sends token ids of another vocabulary. Its tokenizer is on a host of its own: here is a stand-in for that."""
    import tiktoken
    from langchain_openai import OpenAIEmbeddings

    bytes_alone = tiktoken.Encoding(
        name="bytes",
        pat_str=r"[\s\S]",
        mergeable_ranks={bytes([value]): value for value in range(256)},
        special_tokens={},
    )
    tiktoken.encoding_for_model = tiktoken.get_encoding = lambda name: bytes_alone
    client = OpenAIEmbeddings(base_url=url + "/v1", api_key="unused", model="bge-m3")
    return client.embed_documents(texts)


def langchain_huggingface(url, texts):
    from huggingface_hub import InferenceClient
    from langchain_huggingface import HuggingFaceEndpointEmbeddings

    # It takes no address since 1.2.2; the client that it calls does.
    client = HuggingFaceEndpointEmbeddings(model="bge-m3")
    client.client = InferenceClient(url)
    return client.embed_documents(texts)


def huggingface_hub(url, texts):
    from huggingface_hub import InferenceClient

    client = InferenceClient(url)
    rows = client.feature_extraction(texts).tolist()
    likeness = client.sentence_similarity(texts[0], other_sentences=texts)
    assert abs(likeness[0] - 1) < 1e-6, "a text is like itself"
    return rows


def llama_index_tei(url, texts):
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    client = TextEmbeddingsInference(base_url=url, model_name="bge-m3")
    return client.get_text_embedding_batch(texts)


def llama_index_openai(url, texts):
    from llama_index.embeddings.openai import OpenAIEmbedding

    # `model=` takes the names of OpenAI's own models alone.
    client = OpenAIEmbedding(api_base=url + "/v1", api_key="unused", model_name="bge-m3")
    return client.get_text_embedding_batch(texts)


def requests_msgpack(url, texts):
    import msgpack
    import msgpack_numpy
    import requests

    reply = requests.post(
        url + "/encode",
        data=msgpack.packb({"query": texts}),
        headers={"Content-Type": "application/msgpack", "Accept": "application/msgpack; layout=numpy"},
        timeout=60,
    )
    if not reply.ok:
        raise RuntimeError(reply.text)
    return msgpack.unpackb(reply.content, object_hook=msgpack_numpy.decode)["embeddings"].tolist()


def ollama_python(url, texts):
    from ollama import Client

    client = Client(host=url)
    assert client.list().models[0].model, "a model with a name"
    assert client.show("bge-m3").modelinfo, "its sizes"
    return client.embed(model="bge-m3", input=texts).embeddings


def langchain_ollama(url, texts):
    from langchain_ollama import OllamaEmbeddings

    # It looks the name up in /api/tags, and sends every option of generation as null.
    client = OllamaEmbeddings(base_url=url, model="bge-m3", validate_model_on_init=True)
    return client.embed_documents(texts)


def cohere_python(url, texts):
    import cohere

    client = cohere.ClientV2(api_key="unused", base_url=url)
    reply = client.embed(model="bge-m3", texts=texts, input_type="search_query", embedding_types=["float"])
    ranks = client.rerank(model="bge-m3", query=texts[0], documents=texts, top_n=1).results
    assert ranks[0].index == 0, "a text is nearest to itself"
    # The older class sends 96 texts a call, in parallel, and wants the type of the reply.
    older = cohere.Client(api_key="unused", base_url=url)
    assert older.embed(model="bge-m3", texts=texts).embeddings == reply.embeddings.float_
    return reply.embeddings.float_


def voyageai_python(url, texts):
    import voyageai

    client = voyageai.Client(api_key="unused", base_url=url + "/v1")
    ranks = client.rerank(texts[0], texts, model="bge-m3", top_k=1).results
    assert ranks[0].document == texts[0], "a text is nearest to itself"
    floats = client.embed(texts, model="bge-m3", input_type="query").embeddings
    # It decodes base64 by the type that it asked for.
    for dtype, length in [("int8", len(floats[0])), ("ubinary", len(floats[0]) // 8)]:
        rows = client.embed(texts, model="bge-m3", output_dtype=dtype).embeddings
        assert [len(row) for row in rows] == [length] * len(texts), dtype
    largest = max(abs(value) for value in floats[0])
    int8 = client.embed(texts[:1], model="bge-m3", output_dtype="int8").embeddings[0]
    assert all(abs(got - value / largest * 127) <= 0.501 for got, value in zip(int8, floats[0]))
    return floats


def infinity(url, texts):
    from infinity_client import Client
    from infinity_client.api.default import embeddings, rerank
    from infinity_client.models import OpenAIEmbeddingInputText, RerankInput

    client = Client(base_url=url, raise_on_unexpected_status=True)
    # Its model sends dimensions: 0 where its user says none.
    body = OpenAIEmbeddingInputText(input_=texts, model="bge-m3")
    reply = embeddings.sync_detailed(client=client, body=body)
    if reply.status_code != 200:
        raise RuntimeError(reply.content.decode())
    ranks = rerank.sync(client=client, body=RerankInput(query=texts[0], documents=texts, model="bge-m3"))
    assert ranks.results[0].index == 0, "a text is nearest to itself"
    return [row["embedding"] for row in json.loads(reply.content)["data"]]


def chroma_ollama(url, texts):
    from chromadb.utils.embedding_functions import OllamaEmbeddingFunction

    return [row.tolist() for row in OllamaEmbeddingFunction(url=url, model_name="bge-m3")(texts)]


def chroma_openai(url, texts):
    from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction

    function = OpenAIEmbeddingFunction(api_base=url + "/v1", api_key="unused", model_name="bge-m3")
    return [row.tolist() for row in function(texts)]


def litellm_openai(url, texts):
    import litellm

    reply = litellm.embedding("openai/bge-m3", input=texts, api_base=url + "/v1", api_key="unused")
    return [row["embedding"] for row in reply.data]


def litellm_ollama(url, texts):
    import litellm

    reply = litellm.embedding("ollama/bge-m3", input=texts, api_base=url)
    return [row["embedding"] for row in reply.data]


def haystack(url, texts):
    from haystack import Document
    from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
    from haystack.utils import Secret

    options = {"api_base_url": url + "/v1", "api_key": Secret.from_token("unused"), "model": "bge-m3"}
    # Without raise_on_failure it answers documents without an embedding.
    embedder = OpenAIDocumentEmbedder(**options, progress_bar=False, raise_on_failure=True)
    rows = [one.embedding for one in embedder.run([Document(content=text) for text in texts])["documents"]]
    assert OpenAITextEmbedder(**options).run(texts[0])["embedding"] == rows[0]
    return rows


def txtai(url, texts):
    from txtai.vectors import VectorsFactory

    options = {"api_base": url + "/v1", "api_key": "unused"}
    vectors = VectorsFactory.create({"method": "litellm", "path": "openai/bge-m3", "vectors": options}, None)
    return vectors.encode(texts).tolist()


def mem0(url, texts):
    from mem0.configs.embeddings.base import BaseEmbedderConfig
    from mem0.embeddings.openai import OpenAIEmbedding

    config = BaseEmbedderConfig(model="bge-m3", api_key="unused", openai_base_url=url + "/v1", embedding_dims=1024)
    embedder = OpenAIEmbedding(config)
    return [embedder.embed(text, "add") for text in texts]


def baseten(url, texts):
    from baseten_performance_client import PerformanceClient

    # It adds /v1 by itself.
    reply = PerformanceClient(base_url=url, api_key="unused").embed(input=texts, model="bge-m3")
    return [row.embedding for row in reply.data]


def sie(url, texts):
    import numpy
    from sie_sdk import SIEClient

    client = SIEClient(url)
    items = [{"text": text, "id": text} for text in texts]
    heads = client.list_models()[0]["outputs"]
    results = client.encode("BAAI/bge-m3", items, output_types=heads)
    for result, text in zip(results, texts):
        assert result["id"] == text
        if "sparse" in heads:
            assert len(result["sparse"]["indices"]) == len(result["sparse"]["values"]) > 0
        if "multivector" in heads:
            assert result["multivector"].shape[1] == len(result["dense"])
    int8 = client.encode("BAAI/bge-m3", items[0], output_dtype="int8")["dense"]
    row = results[0]["dense"]
    assert abs(int8 - row / abs(row).max() * 127).max() <= 0.501
    bits = client.encode("BAAI/bge-m3", items[0], output_dtype="ubinary")["dense"]
    assert (numpy.unpackbits(bits)[: len(row)] == (row > 0)).all()
    return [result["dense"].tolist() for result in results]


CLIENTS = {
    "openai (Python)": openai_python,
    "langchain-openai (Python)": langchain_openai,
    "langchain-openai, by default": langchain_openai_by_default,
    "langchain-huggingface (Python)": langchain_huggingface,
    "huggingface_hub (Python)": huggingface_hub,
    "LlamaIndex OpenAIEmbedding (Python)": llama_index_openai,
    "LlamaIndex TextEmbeddingsInference (Python)": llama_index_tei,
    "requests + msgpack-numpy (Python)": requests_msgpack,
    "ollama (Python)": ollama_python,
    "langchain-ollama (Python)": langchain_ollama,
    "cohere (Python)": cohere_python,
    "voyageai (Python)": voyageai_python,
    "infinity_client (Python)": infinity,
    "Chroma OllamaEmbeddingFunction (Python)": chroma_ollama,
    "Chroma OpenAIEmbeddingFunction (Python)": chroma_openai,
    "LiteLLM openai/ (Python)": litellm_openai,
    "LiteLLM ollama/ (Python)": litellm_ollama,
    "Haystack (Python)": haystack,
    "txtai (Python)": txtai,
    "mem0 (Python)": mem0,
    "baseten-performance-client (Python)": baseten,
    "sie-sdk (Python)": sie,
}

lock = threading.Lock()


def answer(asked):
    try:
        told = {"vectors": CLIENTS[asked["client"]](asked["url"], asked["texts"])}
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    with lock:
        print(json.dumps({"id": asked["id"], **told}), file=answers, flush=True)


for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),)).start()
