import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { findProgram } from './find-program.ts';

const SCREENSHOTS = join(import.meta.dir, '../../../reports/screenshots');

/** A page that is watched, in a real Chromium whose network ends at this machine. */
export interface WatchedPage {
  readonly page: Page;
  /** What it asked of anybody but the server, all refused. */
  readonly strayed: readonly string[];
  /** What went wrong in it: exceptions, refusals of its own policy, files that did not load. */
  readonly complaints: readonly string[];
  /** The whole page as `reports/screenshots/NAME.png`; resolves to its bytes. */
  shoot(name: string): Promise<Uint8Array>;
}

/** How a page is to be looked at. */
export interface Look {
  readonly locale: 'ru' | 'en';
  readonly scheme: 'light' | 'dark';
  readonly width: number;
}

/** Chromium without a window and without a network: no name resolves. */
export function openBrowser(): Promise<Browser> {
  const { path, environment } = findProgram('chromium');
  return chromium.launch({
    executablePath: path,
    env: { ...process.env, ...environment } as Record<string, string>,
    args: [
      // Containers often run as root, for which the sandbox is not made.
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ],
  });
}

/** Opens one page of the server. What it asks of others is refused and noted. */
export async function openPage(
  browser: Browser,
  { url, look }: { url: string; look: Look },
): Promise<WatchedPage> {
  const context = await browser.newContext({
    locale: look.locale,
    colorScheme: look.scheme,
    viewport: { width: look.width, height: 900 },
    reducedMotion: 'reduce',
  });
  const strayed: string[] = [];
  const complaints: string[] = [];
  const { origin } = new URL(url);
  await context.route('**', (route) => {
    const asked = new URL(route.request().url());
    if (asked.origin === origin || asked.protocol === 'data:') return route.continue();
    strayed.push(asked.href);
    return route.abort();
  });
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  await page.goto(url);
  return {
    page,
    strayed,
    complaints,
    async shoot(name) {
      mkdirSync(SCREENSHOTS, { recursive: true });
      return await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
    },
  };
}

/** Whether anything of the page lies outside of its width. */
export function isOverflowing(page: Page): Promise<boolean> {
  return page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
}
