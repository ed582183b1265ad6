import { describe, expect, test } from 'bun:test';
import {
  describePull,
  dockerPort,
  dockerTriton,
  dockerTrtexec,
  parseDockerPort,
} from './docker.ts';

const pull = { image: 'triton:1', root: '/var/lib/docker' };

test('a pull tells what it costs, and whether the disk has that much', () => {
  const cost = 'pulling triton:1: about 8 GB, which take 16 GB of disk';
  expect(describePull({ ...pull, freeBytes: undefined })).toBe(cost);
  expect(describePull({ ...pull, freeBytes: 20.04e9 })).toBe(
    `${cost}; /var/lib/docker has 20.0 GB free`,
  );
  expect(describePull({ ...pull, freeBytes: 15.9e9 })).toBe(
    `${cost}; /var/lib/docker has 15.9 GB free: too little`,
  );
});

describe('docker', () => {
  const image = 'nvcr.io/nvidia/tritonserver:25.08-py3';

  // Without the image's own entrypoint, CUDA would not run on a driver that is older than itself.
  test('runs trtexec with the GPU, as the caller, behind the entrypoint of the image', () => {
    const line = dockerTrtexec({
      image,
      device: '0',
      user: '1000:1000',
      volumes: { '/a b/onnx': '/onnx:ro', '/plans': '/plan' },
      trtexecArguments: ['--help', '--x=$HOME "quoted"'],
    });
    expect(line).toEqual([
      ...['run', '--rm', '--init', '--name', 'bge-m3-export-build'],
      ...['--gpus', 'device=0', '--user', '1000:1000'],
      ...['--volume', '/a b/onnx:/onnx:ro', '--volume', '/plans:/plan'],
      ...[image, 'sh', '-c'],
      'PATH="$PATH:/usr/src/tensorrt/bin"; exec trtexec "$@"',
      ...['trtexec', '--help', '--x=$HOME "quoted"'],
    ]);
  });

  test('serves a candidate on loopback alone, and keeps its log until it is removed', () => {
    const line = dockerTriton({ image, device: '1', repository: '/r', model: 'bge_model' });
    expect(line.slice(0, 11)).toEqual([
      ...['run', '--detach', '--init', '--name', 'bge-m3-export-gate', '--gpus', 'device=1'],
      ...['--publish', '127.0.0.1::8000', '--volume', '/r:/models:ro'],
    ]);
    expect(line).toContain('--load-model=bge_model');
  });

  test('tells the port', () => {
    expect(dockerPort('abc')).toEqual(['port', 'abc', '8000/tcp']);
    expect(parseDockerPort('127.0.0.1:49153\n')).toBe('http://127.0.0.1:49153');
    expect(parseDockerPort('')).toBeUndefined();
  });
});
