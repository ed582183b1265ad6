import { expect, test } from 'bun:test';
import { likelyName } from './likely-name.ts';

const KNOWN = ['input_type', 'batch_size', 'query', 'API_KEYS', 'PORT'];

// Planted and caught: a limit of two for every name, swapped letters counted twice.
test.each([
  ['input_tpye', 'input_type'],
  ['batchsize', 'batch_size'],
  ['batchSize', 'batch_size'],
  ['qeury', 'query'],
  ['API_KEY', 'API_KEYS'],
  ['APIKEYS', 'API_KEYS'],
  ['PROT', 'PORT'],
  ['PORTS', 'PORT'],
])('%s: %s is meant', (name, meant) => {
  expect(likelyName(name, KNOWN)).toBe(meant);
});

test.each([['normalize'], ['HOME'], ['POOR_T'], ['OUR_API_KEYS'], ['PATH'], ['']])(
  '%s is near none',
  (name) => {
    expect(likelyName(name, KNOWN)).toBeUndefined();
  },
);
