import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mainPath, zigzag } from '../support/command.js';

const model = resolve('test/fixtures/stories260k');
let directory: string;
let env: NodeJS.ProcessEnv;
let ui: ChildProcess;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-run-'));
  env = { XDG_STATE_HOME: join(directory, 'state'), TEMPORAL_ADDRESS: '', TEMPORAL_PROFILE: '' };
  pipeline('short', 24);
  pipeline('long', 3000);
  // One server for all commands, as where somebody has the UI open.
  ui = spawn(process.execPath, [mainPath, 'ui'], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(ui.stdout!, 'data');
});
afterAll(async () => {
  const ended = once(ui, 'exit');
  ui.kill('SIGINT');
  const [code] = await ended;
  rmSync(directory, { recursive: true, force: true });
  expect(code).toBe(0);
});

/** A generation over a table of `rows` beginnings of stories. */
function pipeline(name: string, rows: number, changed: Record<string, unknown> = {}): string {
  const lines = Array.from({ length: rows }, (_, n) => JSON.stringify({ n, text: ['The dog', 'Lily and Tom'][n % 2] }));
  writeFileSync(join(directory, `${name}.jsonl`), `${lines.join('\n')}\n`);
  const settings = {
    name,
    model,
    source: { path: `${name}.jsonl`, id: 'n' },
    prompt: { template: '{{ text }}' },
    generate: { maxNewTokens: 24 },
    shardRows: 12,
    runDir: join(directory, 'runs', name),
    ...changed,
  };
  const path = join(directory, `${name}.yaml`);
  // JSON is YAML.
  writeFileSync(path, JSON.stringify(settings, undefined, 1));
  return path;
}

const at = (name: string) => join(directory, name);

describe('zigzag run', () => {
  it('ends stdout with the object that scripts rely on, and does nothing the second time', () => {
    const first = zigzag(['run', at('short.yaml'), '--json'], env);
    expect(first.code, first.stderr).toBe(0);
    expect(first.stdout.trim().split('\n')).toHaveLength(1);
    const runDir = at('runs/short');
    expect(first.json).toMatchObject({
      runDir,
      rows: 24,
      errors: 0,
      outputs: [join(runDir, 'outputs', '00000.parquet'), join(runDir, 'outputs', '00001.parquet')],
      metrics: { short: {} },
      tokens: { generated: 24 * 24 },
    });
    const { outputs } = first.json as { outputs: string[] };
    const parts = outputs.map((path) => readFileSync(path));
    const again = zigzag(['run', at('short.yaml'), '--json'], env);
    expect(again.json).toMatchObject({ rows: 24, outputs, generationThroughput: null });
    expect(outputs.map((path) => readFileSync(path))).toEqual(parts);
  });

  it('leaves a run that status and report speak of', () => {
    const { json } = zigzag(['status', at('runs/short'), '--json'], env);
    expect(json).toMatchObject({ stage: 'finished', rows: 24, plannedRows: 24, doneShards: 2, plannedShards: 2 });
    expect(zigzag(['status', at('runs/short')], env).stdout).toMatch(/state +finished/);
    const report = zigzag(['report', at('runs/short')], env);
    expect(report.stdout).toContain('# short');
    expect(report.stderr).toContain(join(at('runs/short'), 'report.html'));
  });

  it('refuses a directory that holds another run, and names what differs', () => {
    const { code, stderr } = zigzag(['run', at('short.yaml'), '--set', 'generate.maxNewTokens=8'], env);
    expect(code).toBe(2);
    expect(stderr).toMatch(/holds another run; different are: generate\.maxNewTokens \(was 24, is 8\).*--run-dir/s);
  });
});

describe('a malformed row', () => {
  it('becomes an error of its own, named with its line, and the others are answered', () => {
    const path = pipeline('malformed', 3);
    writeFileSync(at('malformed.jsonl'), '{"n":0,"text":"a"}\n{"n":1,"text"\n{"n":2,"text":"c"}\n');
    const { code, json, stderr } = zigzag(['run', path, '--json'], env);
    expect({ code, json }).toMatchObject({ code: 0, json: { rows: 3, errors: 1 } });
    expect(stderr).toContain('1 row could not be answered');
    expect(readFileSync(join(at('runs/malformed'), 'report.html'), 'utf8')).toContain('malformed.jsonl:2');
  });
});

describe('Ctrl-C', () => {
  /** Interrupts the long run when it has begun to answer, as often as told. */
  async function interrupted(times: number) {
    const child = spawn(process.execPath, [mainPath, 'run', at('long.yaml')], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
      if (stderr.includes('answering') && !stderr.includes('Stopping')) child.kill('SIGINT');
      if (times === 2 && stderr.includes('Stopping')) child.kill('SIGINT');
    });
    const [code, signal] = await once(child, 'exit');
    return { code, signal, stderr };
  }

  it('once stops cleanly, says how to go on, and exits with 130', async () => {
    const { code, stderr } = await interrupted(1);
    expect(stderr).toMatch(
      /Stopping; Ctrl-C again leaves at once\.\n.*Interrupted\..*\n {2}zigzag run .*long\.yaml\n$/s,
    );
    expect(code).toBe(130);
    const { json } = zigzag(['status', at('runs/long'), '--json'], env);
    expect(json).toMatchObject({ stage: 'waiting', plannedRows: 3000, report: null });
    expect(zigzag(['report', at('runs/long')], env)).toMatchObject({ code: 2 });
  });

  it('twice leaves at once with 130 and no trace', async () => {
    const { code, signal, stderr } = await interrupted(2);
    expect({ code, signal }).toEqual({ code: 130, signal: null });
    expect(stderr).not.toMatch(/^\s+at |terminate called/m);
  });

  it('leaves a run that can be cancelled', () => {
    expect(zigzag(['cancel', at('runs/long')], env).stdout).toContain('Cancelled.');
    expect(zigzag(['status', at('runs/long'), '--json'], env).json).toMatchObject({ stage: 'cancelled' });
    expect(zigzag(['cancel', at('runs/long')], env)).toMatchObject({ code: 0, stdout: 'It is not running.\n' });
  });
});

describe('a run that is held', () => {
  it('stands still until it is told to go on, and loses nothing', async () => {
    // Many shards: a fast machine is through with a few before the next command has begun.
    const path = pipeline('held', 240, { generate: { maxNewTokens: 200 } });
    const child = spawn(process.execPath, [mainPath, 'run', path, '--json'], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => (stdout += chunk));
    child.stderr.on('data', (chunk) => (stderr += chunk));
    const exit = once(child, 'exit');
    while (!stderr.includes('answering')) await sleep(50);

    expect(zigzag(['pause', at('runs/held')], env).stdout).toContain(`zigzag resume ${at('runs/held')}`);
    const paused = zigzag(['status', at('runs/held'), '--json'], env).json;
    expect(paused).toMatchObject({ stage: 'paused', command: `zigzag resume ${at('runs/held')}` });
    expect(child.exitCode).toBeNull();
    expect(zigzag(['resume', at('runs/held')], env).stdout).toBe('It goes on.\n');
    expect(await exit).toEqual([0, null]);
    expect(JSON.parse(stdout)).toMatchObject({ rows: 240, errors: 0 });
    expect(stderr).toMatch(/^paused: .*until zigzag resume$/m);
    expect(zigzag(['pause', at('runs/held')], env).stdout).toBe('It is not running.\n');
  });
});

describe('bad input', () => {
  it.each([
    ['a pipeline that is not there', () => ['run', at('nowhere.yaml')], /nowhere\.yaml/],
    [
      'an unknown key',
      () => ['run', pipeline('key', 1, { modle: 'x' })],
      /key\.yaml:\d+: .*"modle".*did you mean "model"/s,
    ],
    [
      'a source that is not there',
      () => ['run', pipeline('source', 1, { source: { path: 'gone.jsonl' } })],
      /gone\.jsonl/,
    ],
    [
      'a template that names a missing column',
      () => ['run', pipeline('column', 1, { prompt: { template: '{{ txt }}' } })],
      /column "txt"; did you mean "text"\?.*n, text/s,
    ],
    [
      'a model that is not there',
      () => ['run', at('short.yaml'), '--set', 'model=smolm2-135m-instruct'],
      /did you mean smollm2-135m-instruct/,
    ],
    [
      'a directory that cannot be made',
      () => ['run', at('short.yaml'), '--run-dir', at('short.jsonl/x')],
      /cannot write .*short\.jsonl/,
    ],
    ['a run that is not there', () => ['status', 'nowhere'], /no run "nowhere"/],
    ['an option that is not there', () => ['run', at('short.yaml'), '--jsno'], /Did you mean --json\?/],
    ['a command that is not there', () => ['rnu'], /Did you mean run\?/],
    ['a limit that is no number', () => ['run', at('short.yaml'), '--limit', 'x'], /whole number/],
    [
      'two times for one schedule',
      () => ['schedule', 'backfill', 'x', '--start', '2026-01-02', '--end', '2026-01-01'],
      /must lie before/,
    ],
  ])('%s is answered with one message and exit code 2', (_, words, message) => {
    const { code, stdout, stderr } = zigzag(words(), env);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it('no Temporal to be had is one message that says what to do', () => {
    const cache = join(directory, 'empty-cache');
    mkdirSync(join(cache, 'zigzag'), { recursive: true });
    // So that nothing can be fetched, network or not.
    writeFileSync(join(cache, 'zigzag', 'temporal'), 'a file where a directory belongs');
    const { code, stderr } = zigzag(['run', at('short.yaml')], { ...env, PATH: '', XDG_CACHE_HOME: cache });
    expect(stderr).toMatch(/^error: no Temporal program to be had.*install the Temporal CLI.*TEMPORAL_ADDRESS/ms);
    expect(code).toBe(2);
  });

  it('a cluster that does not answer is one message that says what to do', () => {
    const { code, stderr } = zigzag(['run', at('short.yaml')], { ...env, TEMPORAL_ADDRESS: '127.0.0.1:1' });
    expect(stderr).toMatch(/cannot use Temporal at 127\.0\.0\.1:1.*correct TEMPORAL_ADDRESS/s);
    expect(code).toBe(2);
  });

  it('a port in use is named, with what to do', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const { code, stderr } = zigzag(['ui', '--port', `${port}`], { ...env, XDG_STATE_HOME: at('other-state') });
    other.close();
    expect(code).toBe(2);
    expect(stderr).toContain(`${port}`);
  });

  it('what nobody expected is one line, with the trace in a log', () => {
    const cache = join(directory, 'broken-cache');
    mkdirSync(join(cache, 'zigzag'), { recursive: true });
    writeFileSync(join(cache, 'zigzag', 'models'), 'a file where a directory belongs');
    const { code, stderr } = zigzag(['model', 'list'], { XDG_CACHE_HOME: cache });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: .*; the details are in .*\.log\n$/);
    const log = /details are in (.*)\n/.exec(stderr)?.[1] ?? '';
    expect(existsSync(log) && readFileSync(log, 'utf8')).toMatch(/^\s+at /m);
    expect(zigzag(['model', 'list'], { XDG_CACHE_HOME: cache, ZIGZAG_DEBUG: '1' }).stderr).toMatch(/^\s+at /m);
  });
});
