"""Drives the Python clients for the tests: one JSON request a line in, one JSON answer a line out.

A request is {"client", "url", "texts"}; an answer is {"vectors"} or {"error"}, the latter as whoever prints the
exception reads it.
"""

import json
import sys
import threading


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


def langchain_tei(url, texts):
    from langchain_huggingface import HuggingFaceEndpointEmbeddings

    return HuggingFaceEndpointEmbeddings(model=url).embed_documents(texts)


def llama_index_tei(url, texts):
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    client = TextEmbeddingsInference(base_url=url, model_name="bge-m3")
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


CLIENTS = {
    "openai (Python)": openai_python,
    "langchain-openai (Python)": langchain_openai,
    "langchain-openai, by default": langchain_openai_by_default,
    "langchain-huggingface (Python, TEI)": langchain_tei,
    "LlamaIndex TextEmbeddingsInference (Python)": llama_index_tei,
    "requests + msgpack-numpy (Python)": requests_msgpack,
    "ollama (Python)": ollama_python,
    "langchain-ollama (Python)": langchain_ollama,
    "cohere (Python)": cohere_python,
    "voyageai (Python)": voyageai_python,
    "infinity_client (Python)": infinity,
}

lock = threading.Lock()


def answer(asked):
    try:
        told = {"vectors": CLIENTS[asked["client"]](asked["url"], asked["texts"])}
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    with lock:
        print(json.dumps({"id": asked["id"], **told}), flush=True)


for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),)).start()
