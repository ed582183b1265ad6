import { expect, test } from 'bun:test';
import { createCallerAddress } from './access.ts';

/** Planted by hand, and caught: reading from the left, where the made-up address was believed. */

const PROXIES = ['10.0.0.0/8', '2001:db8:1::/48', '192.0.2.7'];

test.each([
  ['nobody forwards', '203.0.113.5', null, '203.0.113.5'],
  ['a stranger who claims to', '203.0.113.5', '198.51.100.1', '203.0.113.5'],
  ['one proxy', '10.1.2.3', '203.0.113.5', '203.0.113.5'],
  ['a proxy by its address', '192.0.2.7', '203.0.113.5', '203.0.113.5'],
  ['the address beside it', '192.0.2.8', '203.0.113.5', '192.0.2.8'],
  ['a proxy in the form of IPv6', '::ffff:10.1.2.3', '203.0.113.5', '203.0.113.5'],
  ['a proxy of IPv6', '2001:db8:1::9', '2001:db8:2::5', '2001:db8:2::5'],
  ['what the caller made up', '10.1.2.3', '1.1.1.1, 203.0.113.5', '203.0.113.5'],
  ['two proxies', '10.1.2.3', '203.0.113.5, 10.9.9.9', '203.0.113.5'],
  ['two, and what was made up', '10.1.2.3', '10.0.0.1, 203.0.113.5, 10.9.9.9', '203.0.113.5'],
  ['a caller among the proxies', '10.1.2.3', '10.5.5.5, 10.9.9.9', '10.5.5.5'],
  ['a port', '10.1.2.3', '203.0.113.5:4711', '203.0.113.5'],
  ['a port of IPv6', '10.1.2.3', '[2001:db8:2::5]:4711', '2001:db8:2::5'],
  ['no address', '10.1.2.3', '203.0.113.5, unknown', '10.1.2.3'],
  ['no address further on', '10.1.2.3', 'unknown, 10.9.9.9', '10.9.9.9'],
  ['an empty header', '10.1.2.3', '', '10.1.2.3'],
])('%s', (_what, peer, forwardedFor, caller) => {
  expect(createCallerAddress(PROXIES)(peer, forwardedFor)).toBe(caller);
});

test('who comes by the Unix socket is believed only where the setting says so', () => {
  expect(createCallerAddress(PROXIES)(undefined, '203.0.113.5')).toBeUndefined();
  expect(createCallerAddress(['unix'])(undefined, '203.0.113.5')).toBe('203.0.113.5');
});

test('without the setting nobody is believed', () => {
  expect(createCallerAddress([])('10.1.2.3', '203.0.113.5')).toBe('10.1.2.3');
});
