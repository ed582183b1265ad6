import { describe, expect, test } from 'bun:test';
import { adviceFor, dockerFailure, tritonFailure, trtexecFailure } from './failures.ts';

const NO_TOOLKIT = `docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]]

Run 'docker run --help' for more information
`;
const DENIED = `docker: permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock

Run 'docker run --help' for more information
`;

describe('a build that fails is told by', () => {
  test('its first error line', () => {
    const output = `[09/25/2026-10:00:00] [I] Start
[09/25/2026-10:00:02] [E] [TRT] Error Code 4: types Half and Float.
[09/25/2026-10:00:02] [E] Engine set up failed
&&&& FAILED TensorRT.trtexec`;
    expect(trtexecFailure(output)).toBe('[E] [TRT] Error Code 4: types Half and Float.');
  });

  test('what Docker says, not by how to get help', () => {
    expect(trtexecFailure(NO_TOOLKIT)).toStartWith(
      'docker: Error response from daemon: could not select device driver',
    );
  });

  test('what the image thinks of the driver', () => {
    const output = `== Triton Inference Server ==
ERROR: This container was built for NVIDIA Driver Release 580.65 or later, but
       version 535.216 was detected and compatibility mode is UNAVAILABLE.
Aborted`;
    expect(trtexecFailure(output)).toStartWith('ERROR: This container was built for');
    expect(adviceFor(output)).toContain('The driver is too old');
  });

  test('its last line, or the lack of any', () => {
    expect(trtexecFailure('one\ntwo\n\n')).toBe('two');
    expect(trtexecFailure('\n')).toBe('no output');
  });
});

test('a Docker that fails is told by its own words', () => {
  expect(dockerFailure(NO_TOOLKIT)).toContain('could not select device driver');
  expect(dockerFailure(DENIED)).toStartWith('docker: permission denied');
  expect(dockerFailure('permission denied while trying\nerrors pretty printing info')).toBe(
    'permission denied while trying',
  );
});

describe('a Triton that fails is told by', () => {
  test.each([
    [
      'its first error, without where in its source that is',
      'E0826 09:00:00.123456 1 logging.cc:40] "Error Code 1"\nE0826 09:00:01.1 1 a.cc:2] "later"',
      '"Error Code 1"',
    ],
    ['what the image says', 'a banner\nERROR: no driver\nAborted', 'ERROR: no driver'],
    ['its last line', 'I0826 09:00:00.1 1 a.cc:1] "loading"\nKilled\n', 'Killed'],
    ['the lack of a log', '', 'no log'],
  ])('%s', (_what, log, line) => {
    expect(tritonFailure(log)).toBe(line);
  });
});

describe('advice', () => {
  test.each([
    ['Error Code 2: OutOfMemory (Requested size was 1 bytes.)', '--batch-tokens'],
    ['[E] Error[4]: kMATMUL: volume exceeds 2147483647', '--batch-tokens'],
    [
      '[E] Error[10]: Could not find any implementation for node {ForeignNode[a...b]}',
      '--batch-tokens',
    ],
    [NO_TOOLKIT, 'install nvidia-container-toolkit and restart Docker'],
    ['unresolvable CDI devices nvidia.com/gpu=0', 'install nvidia-container-toolkit'],
    [DENIED, 'sudo usermod -aG docker $USER, then log in again'],
    ['CUDA driver version is insufficient for CUDA runtime version', 'TRITON_IMAGE'],
  ])('for %p has "%s"', (output, words) => {
    expect(adviceFor(output)).toContain(words);
  });

  test('is nothing where nobody knows any', () => {
    expect(adviceFor('Could not open file /plan/model.plan: Permission denied')).toBe('');
  });
});
