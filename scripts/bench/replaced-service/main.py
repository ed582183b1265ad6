"""The kind of service that this server replaces, to be measured beside it.

One request carries one text and gets one vector. The Hugging Face tokenizer runs in the event loop and pads every text to
512 tokens; ids and mask go to Triton as JSON numbers, one text an inference, and the vector comes back as JSON numbers.

Settings: TOKENIZER, a folder with tokenizer.json and tokenizer_config.json; TRITON, the URL of a Triton; MODEL.
"""
import os
from contextlib import asynccontextmanager

import aiohttp
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoTokenizer

TOKEN_COUNT = 512
INFER_URL = f"{os.environ['TRITON']}/v2/models/{os.environ['MODEL']}/infer"


class Query(BaseModel):
    query: str
    batch_size: int = 1


class Encoder:
    """What lives as long as the service: the tokenizer and the connections to Triton."""

    def __init__(self, session):
        self.session = session
        self.tokenizer = AutoTokenizer.from_pretrained(os.environ["TOKENIZER"])

    async def encode(self, text):
        tokens = self.tokenizer(
            [text],
            padding="max_length",
            truncation=True,
            max_length=TOKEN_COUNT,
            return_tensors="np",
        )
        inputs = [self._input(name, tokens[name]) for name in ("input_ids", "attention_mask")]
        async with self.session.post(INFER_URL, json={"inputs": inputs}) as reply:
            reply.raise_for_status()
            body = await reply.json()
        return np.array(body["outputs"][0]["data"], dtype=np.float32)

    @staticmethod
    def _input(name, array):
        return {
            "name": name,
            "shape": list(array.shape),
            "datatype": "INT64",
            "data": array.astype(np.int64).ravel().tolist(),
        }


@asynccontextmanager
async def lifespan(app):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        app.state.encoder = Encoder(session)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/encode")
async def encode(query: Query):
    vector = await app.state.encoder.encode(query.query)
    return {"embedding": vector.tolist()}
