import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { Browser, Page } from 'playwright-core';
import { smallHeadsHarness } from '../golden/small-heads-harness.ts';
import { isOverflowing, type Look, openBrowser, openPage } from '../programs/open-browser.ts';

/**
 * The pages in a real Chromium that reaches nothing but this server. Every state is also kept as a
 * picture in `reports/screenshots/`, for people.
 *
 * Faults that were planted by hand, and that this suite caught: an image from an outside host, an
 * inline script, texts set as HTML, the table of hits wider than a phone, tokens beyond the limit
 * shown as kept.
 */

setDefaultTimeout(120_000);

const DESK: Look = { locale: 'ru', scheme: 'light', width: 1200 };
const NIGHT: Look = { locale: 'en', scheme: 'dark', width: 1200 };
const PHONE: Look = { locale: 'ru', scheme: 'dark', width: 390 };

let browser: Browser;
beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(() => browser?.close());

async function ready(page: Page): Promise<void> {
  await page.waitForSelector('.dot.is-up');
}

describe('the playground, on a model with three heads', () => {
  const harness = smallHeadsHarness({ backend: 'embedded' });

  test.each([
    ['empty-desk', DESK],
    ['empty-night', NIGHT],
    ['empty-phone', PHONE],
  ] as const)('%s: before anything was typed', async (name, look) => {
    const { page, strayed, complaints, shoot } = await openPage(browser, {
      url: harness.server.url,
      look,
    });
    await ready(page);
    expect(await page.getAttribute('html', 'lang')).toBe(look.locale);
    const words = look.locale === 'ru' ? 'Закодировать' : 'Encode';
    expect(await page.textContent('#run')).toContain(words);
    expect(await page.textContent('#model')).toContain('32');
    expect(await page.isVisible('#results')).toBe(false);
    await page.click('#run');
    expect(await page.isVisible('#notice')).toBe(true);
    expect(await isOverflowing(page)).toBe(false);
    await shoot(name);
    expect([strayed, complaints]).toEqual([[], []]);
    await page.context().close();
  });

  /** A proxy that has the server below a path; the path is all that the pages know. */
  async function behindProxy(look: (url: string) => Promise<void>): Promise<void> {
    const below = '/embed/ui';
    const proxy = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      fetch(request) {
        const { pathname, search } = new URL(request.url);
        if (!pathname.startsWith(`${below}/`)) return new Response(null, { status: 404 });
        const path = pathname.slice(below.length) + search;
        return fetch(new Request(harness.server.url + path, request));
      },
    });
    try {
      await look(`http://127.0.0.1:${proxy.port}${below}`);
    } finally {
      await proxy.stop(true);
    }
  }

  test('works below a path of its own behind a proxy', () =>
    behindProxy(async (url) => {
      const { page, strayed, complaints } = await openPage(browser, { url: `${url}/`, look: DESK });
      await ready(page);
      await page.click('#sample-law');
      await page.click('#run');
      await page.waitForSelector('.heat');
      expect(await page.textContent('#code')).toContain(url);
      const linked = await page.locator('[href], [src]').all();
      const addresses = await Promise.all(
        linked.map(async (one) => (await one.getAttribute('href')) ?? one.getAttribute('src')),
      );
      expect(addresses.length).toBeGreaterThan(3);
      expect(addresses.filter((address) => address?.startsWith('/'))).toEqual([]);
      expect([strayed, complaints]).toEqual([[], []]);
      await page.context().close();
    }));

  test.each(['/swagger', '/swagger/'])('so does %s, and its calls go there', (path) =>
    behindProxy(async (url) => {
      const address = { url: url + path, look: DESK };
      const { page, strayed, complaints } = await openPage(browser, address);
      await page.waitForSelector('.opblock');
      await page.click('#operations-native-getGet_vector_dim');
      await page.click('.try-out__btn');
      await page.click('.execute');
      await page.waitForSelector('.live-responses-table');
      expect(await page.textContent('.request-url')).toContain(`${url}/get_vector_dim`);
      expect(await page.textContent('.live-responses-table')).toContain('"vector_dim"');
      expect([strayed, complaints]).toEqual([[], []]);
      await page.context().close();
    }),
  );

  test.each([
    ['result-desk', DESK],
    ['result-night', NIGHT],
    ['result-phone', PHONE],
  ] as const)('%s: similarity, weights, search by three heads, times', async (name, look) => {
    const { page, strayed, complaints, shoot } = await openPage(browser, {
      url: harness.server.url,
      look,
    });
    await ready(page);
    await page.click('#sample-law');
    await page.click('#run');
    await page.waitForSelector('.heat');
    expect(await page.locator('.heat tbody td').count()).toBe(25);
    const diagonal = await page.locator('.heat tbody tr td').nth(6).textContent();
    expect(diagonal?.replace(',', '.')).toBe('1.000');
    expect(await page.locator('.hits thead button').count()).toBe(4);
    expect(await page.locator('.hits tbody tr').count()).toBe(5);
    const shaded = await page.locator('.chip[style*="--heat: 1.000"]').count();
    expect(shaded).toBeGreaterThanOrEqual(5);
    expect(await page.locator('#time .legend li').count()).toBe(7);
    expect(await isOverflowing(page)).toBe(false);
    await shoot(name);
    expect([strayed, complaints]).toEqual([[], []]);
    await page.context().close();
  });

  test('is used by keyboard alone', async () => {
    const { page } = await openPage(browser, { url: harness.server.url, look: DESK });
    await ready(page);
    await page.keyboard.press('Tab');
    expect(await page.textContent(':focus')).toBe('К текстам');
    await page.keyboard.press('Enter');
    await page.focus('#texts');
    await page.keyboard.type('исковая давность\nрецепт борща');
    await page.keyboard.press('Control+Enter');
    await page.waitForSelector('.heat');
    await page.focus('.heat td[tabindex="0"]');
    await page.keyboard.press('ArrowRight');
    expect(await page.textContent('.detail')).toContain('рецепт борща');
    await page.keyboard.press('ArrowDown');
    expect(await page.locator('.heat td:focus').getAttribute('aria-label')).toStartWith('1,000');
    await page.context().close();
  });

  test('a text of markup stays a text', async () => {
    const { page, complaints } = await openPage(browser, { url: harness.server.url, look: DESK });
    await ready(page);
    await page.fill(
      '#texts',
      '<img src=x onerror="window.broken = 1">\n<script>broken = 1</script>',
    );
    await page.fill('#query', '<b>bold</b>');
    await page.click('#run');
    await page.waitForSelector('.hits');
    expect(await page.locator('main img, main script, main b b').count()).toBe(0);
    expect(await page.evaluate(() => 'broken' in window)).toBe(false);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  test('the call that it shows gives the vectors that it has', async () => {
    const { page } = await openPage(browser, { url: harness.server.url, look: DESK });
    await ready(page);
    await page.fill('#texts', "it's a text");
    await page.click('#run');
    await page.waitForSelector('.chips');
    const command = (await page.textContent('#code')) ?? '';
    const shell = Bun.spawn(['sh', '-c', `${command} --silent`], { stdout: 'pipe' });
    const reply = JSON.parse(await new Response(shell.stdout).text());
    const own = await harness.post('/encode', { query: ["it's a text"], input_type: 'passage' });
    expect(reply.embeddings).toEqual((await own.json()).embeddings);
    await page.getByText('TypeScript').click();
    expect(await page.textContent('#code')).toContain('import { APIEncoder }');
    await page.context().close();
  });

  test('long: what was cut is struck out, and only that', async () => {
    const url = harness.server.url;
    const { page, complaints, shoot } = await openPage(browser, { url: `${url}/`, look: DESK });
    await ready(page);
    await page.click('#sample-long');
    await page.click('#run');
    await page.waitForSelector('.badge');
    const typed = await page.inputValue('#texts');
    const reply = await harness.post('/tokenize', { inputs: typed.trim() });
    const [tokens] = (await reply.json()) as { special: boolean }[][];
    const count = (tokens?.filter(({ special }) => !special).length ?? 0) - (512 - 2);
    expect((await page.textContent('.badge'))?.replaceAll(/\D/g, '')).toBe(String(count));
    expect(await page.locator('.chip.is-cut').count()).toBeGreaterThan(0);
    expect(await isOverflowing(page)).toBe(false);
    await shoot('long-desk');
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  test('texts that are too long to show all their tokens have their vectors all the same', async () => {
    const { page, complaints } = await openPage(browser, { url: harness.server.url, look: DESK });
    await ready(page);
    await page.evaluate(() => {
      const typed = document.querySelector('textarea');
      if (typed !== null) typed.value = `борщ\n${'слово '.repeat(50_000)}`;
    });
    await page.click('#run');
    await page.waitForSelector('.heat');
    expect(await page.locator('.text-tokens').count()).toBe(1);
    expect(await page.isHidden('#notice')).toBe(true);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  test('error: says the code and the request, and what was there stays', async () => {
    const { page, shoot } = await openPage(browser, { url: harness.server.url, look: NIGHT });
    await ready(page);
    await page.click('#sample-law');
    await page.click('#run');
    await page.waitForSelector('.heat');
    await page.click('#sample-long');
    await page.uncheck('#truncate');
    await page.click('#run');
    await page.waitForSelector('#notice:not([hidden])');
    expect(await page.textContent('#notice-detail')).toContain('EMB_TEXT_TOO_LONG');
    expect(await page.isVisible('.heat')).toBe(true);
    await shoot('error-night');
    await page.context().close();
  });

  test('swagger: every route of the document is drawn, from here alone', async () => {
    const url = `${harness.server.url}/swagger`;
    const { page, strayed, complaints, shoot } = await openPage(browser, { url, look: NIGHT });
    await page.waitForSelector('.opblock');
    const document = await (await fetch(`${url}/json`)).json();
    const routes = Object.values(document.paths as Record<string, object>).flatMap(Object.keys);
    expect(await page.locator('.opblock').count()).toBe(routes.length);
    await shoot('swagger');
    expect([strayed, complaints]).toEqual([[], []]);
    await page.context().close();
  });

  test('a page that leaves the machine would be caught', async () => {
    const { page, strayed } = await openPage(browser, { url: harness.server.url, look: DESK });
    await page.evaluate(() => fetch('https://example.org/').catch(() => undefined));
    // The policy of the page comes first: not even the browser's network is asked.
    expect(strayed).toEqual([]);
    const plain = await openPage(browser, { url: `${harness.server.url}/health`, look: DESK });
    await plain.page.evaluate(() => fetch('https://example.org/').catch(() => undefined));
    expect(plain.strayed).toEqual(['https://example.org/']);
    await page.context().close();
  });

  test('its headers allow it this server and nothing else', async () => {
    const reply = await fetch(harness.server.url);
    const policy = reply.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    expect(reply.headers.get('x-content-type-options')).toBe('nosniff');
  });
});
