import { expect, test } from 'bun:test';
import { maskCredentials, splitCredentials } from './url-credentials.ts';

test('user and password leave the URL for a header', () => {
  const { url, authorization } = splitCredentials('http://us%40er:s3%3Acret@triton:8000');
  expect(url).toBe('http://triton:8000');
  expect(atob(authorization?.slice('Basic '.length) ?? '')).toBe('us@er:s3:cret');
  expect(splitCredentials('http://:key@triton').authorization).toBe(`Basic ${btoa(':key')}`);
});

test('a URL without them stays as it is', () => {
  const url = 'http://triton:8000/a@b';
  expect(splitCredentials(url)).toEqual({ url, authorization: undefined });
});

test('in a text they are masked, wherever they stand', () => {
  expect(maskCredentials('http://a:b@c:1,https://d:e@f/x?y=z@w "//g:h@i@j"')).toBe(
    'http://…@c:1,https://…@f/x?y=z@w "//…@j"',
  );
  expect(maskCredentials('nobody@example.com')).toBe('nobody@example.com');
});
