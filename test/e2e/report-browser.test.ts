import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeReport } from '../../datasets/report.js';
import { writeRun } from '../support/report-run.js';

const executables = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = executables.find(existsSync);
const launchArguments = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const title = executablePath
  ? 'report.html in a browser'
  : 'report.html in a browser (skipped: no chromium in /usr/bin; "apt-get install chromium" brings one)';

describe.skipIf(executablePath === undefined)(title, () => {
  let directory: string;
  let browser: Browser;
  let page: Page;
  /** What must not happen: errors, dialogs, and requests for anything but the page. */
  const incidents: string[] = [];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'zigzag-browser-'));
    const { files } = await writeReport(await writeRun(directory, { generated: 230, chosen: 120, shardRows: 64 }));
    browser = await chromium.launch({ executablePath: executablePath!, args: launchArguments });
    page = await browser.newPage();
    const url = pathToFileURL(files.html).href;
    page.on('console', (message) => incidents.push(`console: ${message.text()}`));
    page.on('pageerror', (error) => incidents.push(`error: ${error.message}`));
    page.on('dialog', (dialog) => incidents.push(`dialog: ${dialog.message()}`));
    page.on('request', (request) => {
      if (request.url() !== url) incidents.push(`request: ${request.url()}`);
    });
    await page.goto(url);
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const visibleRows = () => page.locator('.panel:visible .row:visible').count();
  const press = (name: RegExp) => page.locator('.panel:visible .filters').getByRole('button', { name }).click();

  it('says at once which model answered what, and how it fared', async () => {
    expect(await page.title()).toBe('quickstart · smollm2-135m-instruct · Zigzag');
    expect(await page.locator('header').textContent()).toMatch(
      /smollm2-135m-instruct answered 350 rows of 2 tasks, 23 of them with an error/,
    );
    const tiles = await Promise.all(
      (await page.locator('.tile').all()).map((tile) => tile.locator('dt, dd').allTextContents()),
    );
    expect(tiles).toEqual([
      ['Rows', '350', '23 with an error'],
      ['Prompt tokens', '10,525', '171 a second'],
      ['Generated tokens', '621', '10.1 a second'],
      ['Computing time', '1 min 01 s', '6 shards'],
    ]);
  });

  it('draws each score with its error and the share of guessing where it belongs', async () => {
    const chart = page.getByRole('table', { name: 'Scores' });
    const values = await chart.locator('.chart-value').allInnerTexts();
    expect(values.map((text) => text.replace(/\s+/g, ' '))).toEqual([
      '79.6 % ± 2.7',
      '80.0 % ± 2.6',
      '50.0 % ± 4.6',
      '50.0 % ± 4.6',
    ]);
    const places = await chart
      .locator('svg')
      .nth(2)
      .evaluate((svg) => {
        const box = svg.getBoundingClientRect();
        const centre = (selector: string) => {
          const { left, width } = svg.querySelector(selector)!.getBoundingClientRect();
          return (left + width / 2 - box.left) / box.width;
        };
        return { dot: centre('.dot'), chance: centre('.chance'), whisker: centre('.whisker') };
      });
    expect(places.dot).toBeCloseTo(0.5, 2);
    expect(places.chance).toBeCloseTo(1 / 3, 2);
    expect(places.whisker).toBeCloseTo(0.5, 2);
  });

  it('filters the answers of a task', async () => {
    expect(await visibleRows()).toBe(203);
    await press(/^Errors 23$/);
    expect(await visibleRows()).toBe(23);
    await press(/^Wrong 21$/);
    expect(await visibleRows()).toBe(21);
    await press(/^Right 159$/);
    expect(await visibleRows()).toBe(159);
    // By hand: rows 3, 11, 19 ... 195 ask about Kenya; of these 25 five end in 3 and are wrong, five in 9 and failed.
    await page.locator('.panel:visible input').fill('NAIROBI');
    expect(await page.locator('.panel:visible .row:visible .given').allInnerTexts()).toEqual(
      Array.from({ length: 15 }, () => 'Nairobi'),
    );
    await page.locator('.panel:visible input').fill('no such row');
    expect(await page.locator('.panel:visible .empty').isVisible()).toBe(true);
    await page.locator('.panel:visible input').fill('');
    await press(/^All 203$/);
    expect(await visibleRows()).toBe(203);
  });

  it('shows what a row was asked and what it answered, markup as text', async () => {
    const row = page.locator('.panel:visible .row').first();
    await row.locator('summary').click();
    const body = await row.locator('.body').textContent();
    expect(body).toContain(
      `Q: <script>document.title='owned'</script><img src="http://127.0.0.1:9/x" onerror="alert(1)">`,
    );
    expect(body).toContain('Paris <b onclick="alert(1)">bold</b>');
    expect(await page.title()).not.toBe('owned');
    await row.locator('summary').click();
  });

  it('turns to the other task', async () => {
    await page.getByRole('tab', { name: 'capitals-choice' }).click();
    expect(await visibleRows()).toBe(120);
    const row = page.locator('.panel:visible .row').nth(1);
    await row.locator('summary').click();
    const options = await row.locator('.options tbody tr').allInnerTexts();
    expect(options.map((text) => text.trim().split(/\s+/))).toEqual([
      ['Lima', '-6.563'],
      ['expected', 'Tokyo', '-6.688'],
      ['chosen', 'Oslo', '-1.063'],
    ]);
  });

  it.each([
    ['light', 'rgb(245, 246, 248)'],
    ['dark', 'rgb(13, 16, 22)'],
  ] as const)('is %s where the system is', async (colorScheme, background) => {
    await page.emulateMedia({ colorScheme });
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe(background);
  });

  it('fits a phone', async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390);
  });

  it('leads to its files', async () => {
    const links = await page
      .locator('#files a')
      .evaluateAll((anchors) => anchors.map((anchor) => anchor.getAttribute('href')!));
    expect(links).toContain('outputs/part-00000.parquet');
    for (const link of links) expect(existsSync(join(directory, link)), link).toBe(true);
  });

  it('asked for nothing and complained of nothing in all this', () => expect(incidents).toEqual([]));
});
