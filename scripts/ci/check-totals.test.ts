import { expect, test } from 'bun:test';
import { formatTotals, judgeCheck, parseJUnitTotals } from './check-totals.ts';

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="9" assertions="7" failures="2" skipped="3" time="0.0066">
  <testsuite name="a.test.ts" tests="100" failures="50" skipped="25"></testsuite>
</testsuites>`;

const WELL = { name: 'tests', isOk: true };
const ILL = { name: 'lint', isOk: false };

test('totals come from the root element alone', () => {
  expect(parseJUnitTotals(REPORT)).toEqual({ passed: 4, failed: 2, skipped: 3 });
});

test('no report, or one without totals, is no test run', () => {
  for (const xml of [null, '', '<testsuites>']) {
    expect(parseJUnitTotals(xml)).toEqual({ passed: 0, failed: 0, skipped: 0 });
  }
});

test('a check of passing tests and steps passes', () => {
  const totals = { passed: 3, failed: 0, skipped: 1 };
  expect(judgeCheck({ totals, tests: WELL, steps: [WELL] })).toEqual({ totals, isOk: true });
});

test('a failed step is a failure beside passing tests', () => {
  const totals = { passed: 3, failed: 0, skipped: 0 };
  const judged = judgeCheck({ totals, tests: WELL, steps: [ILL, WELL] });
  expect(judged).toEqual({ totals: { ...totals, failed: 1 }, isOk: false });
});

test('a test file that does not load is a failure although no test failed', () => {
  const totals = { passed: 3, failed: 0, skipped: 0 };
  const judged = judgeCheck({ totals, tests: ILL, steps: [] });
  expect(judged).toEqual({ totals: { ...totals, failed: 1 }, isOk: false });
});

test('failing tests are counted once', () => {
  const totals = { passed: 3, failed: 2, skipped: 0 };
  expect(judgeCheck({ totals, tests: ILL, steps: [WELL] })).toEqual({ totals, isOk: false });
});

test('a run of no test fails, also when all were skipped', () => {
  const totals = { passed: 0, failed: 0, skipped: 4 };
  expect(judgeCheck({ totals, tests: WELL, steps: [] }).isOk).toBe(false);
});

test('the closing line has the form that other tools read', () => {
  expect(formatTotals({ passed: 12, failed: 0, skipped: 0 })).toBe('12 passed, 0 failed');
  expect(formatTotals({ passed: 1, failed: 2, skipped: 3 })).toBe('1 passed, 2 failed, 3 skipped');
});
