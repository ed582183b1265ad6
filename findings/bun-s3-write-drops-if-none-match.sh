#!/usr/bin/env bash
# Bun: a conditional write to S3 by fetch('s3://…') or S3Client.write is sent without its condition.
#
# Expected: `If-None-Match: *` on a PUT makes S3 refuse (412) where the object is there; that is how two
# writers agree on one of them.
# Seen (Bun 1.4.5, moto 5.2.5 as the server): both calls take the header and write over the object, without
# an error. The same PUT to a presigned address by plain `fetch` is refused, as it should be.
#
# Needs Python 3 with venv, and Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); server=''
trap '[[ -z $server ]] || kill "$server"; rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 >/dev/null
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[s3,server]==5.2.5'
venv/bin/python -c 'import sys; from moto.server import main; main(sys.argv[1:])' \
  -H 127.0.0.1 -p 0 >server.log 2>&1 &
server=$!
port=''
while [[ -z $port ]]; do
  kill -0 "$server"
  sleep 0.2
  port=$(sed -n 's/.*http:\/\/127.0.0.1:\([0-9]*\).*/\1/p' server.log | head -1)
done
cat >seen.mjs <<'JS'
import { S3Client } from 'bun';

const endpoint = process.argv[2];
const keys = { bucket: 'bucket', endpoint, accessKeyId: 'a', secretAccessKey: 'b', region: 'us-east-1' };
await fetch(`${endpoint}/bucket`, { method: 'PUT' });
const client = new S3Client(keys);
const condition = { 'If-None-Match': '*' };
const s3 = { endpoint, accessKeyId: 'a', secretAccessKey: 'b', region: 'us-east-1' };
const ways = {
  'fetch s3://': (key) =>
    fetch(`s3://bucket/${key}`, { method: 'PUT', body: 'second', headers: condition, s3 }),
  'S3Client.write': (key) => client.write(key, 'second', { headers: condition }),
  'presigned fetch': (key) =>
    fetch(client.presign(key, { method: 'PUT' }), { method: 'PUT', body: 'second', headers: condition }),
};
const kept = {};
for (const [name, write] of Object.entries(ways)) {
  const key = name.replace(/\W/g, '-');
  await client.write(key, 'first');
  const told = await write(key).then(
    (reply) => (reply instanceof Response ? `status ${reply.status}` : 'no error'),
    (error) => `error ${error.code}`,
  );
  kept[name] = (await client.file(key).text()) === 'first';
  console.log(`Bun ${Bun.version}, ${name}: ${told}, the object ${kept[name] ? 'stays' : 'is written over'}`);
}
const isAsSeen = !kept['fetch s3://'] && !kept['S3Client.write'] && kept['presigned fetch'];
console.log(isAsSeen ? 'as seen' : 'CHANGED');
process.exit(isAsSeen ? 0 : 1);
JS
npx bun seen.mjs "http://127.0.0.1:$port"
