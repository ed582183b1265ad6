/** How many tests passed, failed and were skipped. */
export interface TestTotals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** One part of the check, and how it went. */
export interface StepResult {
  readonly name: string;
  readonly isOk: boolean;
}

/**
 * Reads the totals from a JUnit report's root element.
 *
 * @param xml the report, or null when the tests left none.
 * @returns zeros when there is no report, or it has no totals: then no test ran.
 */
export function parseJUnitTotals(xml: string | null): TestTotals {
  const root = /<testsuites\b[^>]*>/.exec(xml ?? '')?.[0] ?? '';
  const read = (name: string): number =>
    Number(new RegExp(`\\b${name}="(\\d+)"`).exec(root)?.[1] ?? 0);
  const failed = read('failures') + read('errors');
  const skipped = read('skipped');
  return { passed: Math.max(0, read('tests') - failed - skipped), failed, skipped };
}

/**
 * Joins the tests' totals with the other steps, so that the closing line never says that nothing
 * failed when something did: a failed step counts as one, and so does a test run that failed
 * without a failing test (a file that does not load is in no report).
 *
 * @returns the totals to print, and whether the whole check passed: all steps well and at least one
 *   test run.
 */
export function judgeCheck(options: {
  readonly totals: TestTotals;
  readonly tests: StepResult;
  readonly steps: readonly StepResult[];
}): { readonly totals: TestTotals; readonly isOk: boolean } {
  const { totals, tests, steps } = options;
  const ranNothing = totals.passed + totals.failed === 0;
  const uncounted = totals.failed === 0 && (!tests.isOk || ranNothing) ? 1 : 0;
  const failedSteps = steps.filter((step) => !step.isOk).length;
  const failed = totals.failed + uncounted + failedSteps;
  return { totals: { ...totals, failed }, isOk: failed === 0 };
}

/** `N passed, N failed`, with the skipped ones when there are any. */
export function formatTotals({ passed, failed, skipped }: TestTotals): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
