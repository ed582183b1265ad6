"""Vectors of a Ray dataset: ray_embed.py SOURCE.parquet TARGET URL

`map_batches` calls with columns of numpy; `batch_size` is how many texts, `concurrency` how many calls
run. Both belong to what the servers can take, not to the cores of the cluster: the work is done
there, so a task asks for a fraction of a core. Ship `embed_texts.py` with
`ray job submit --working-dir scripts/examples`.
"""

import sys

import ray
from embed_texts import embed_texts


def main(source, target, url):
    def embed(batch):
        return {"id": batch["id"], "embedding": embed_texts(batch["text"].tolist(), url)}

    laws = ray.data.read_parquet(source, columns=["id", "text"])
    laws.map_batches(embed, batch_size=512, concurrency=4, num_cpus=0.25).write_parquet(target)


if __name__ == "__main__":
    main(*sys.argv[1:4])
