"""Vectors of a Spark table: spark_embed.py SOURCE.parquet TARGET.parquet URL

`mapInPandas` hands each task an iterator of frames; a frame is as large as
`spark.sql.execution.arrow.maxRecordsPerBatch` says. Keep it at a few hundred rows, and the number of
tasks at what the servers can take: `repartition` says how many run.
Ship `embed_texts.py` with `--py-files`.
"""

import sys

import requests
from embed_texts import embed_texts
from pyspark.sql import SparkSession


def embedder(url):
    def embed(frames):
        session = requests.Session()
        for frame in frames:
            vectors = embed_texts(frame["text"].tolist(), url, session)
            yield frame[["id"]].assign(embedding=list(vectors))

    return embed


def main(source, target, url, tasks=4):
    spark = (
        SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 512)
        .getOrCreate()
    )
    laws = spark.read.parquet(source).select("id", "text").repartition(tasks)
    schema = "id string, embedding array<float>"
    laws.mapInPandas(embedder(url), schema).write.mode("overwrite").parquet(target)


if __name__ == "__main__":
    main(*sys.argv[1:4])
