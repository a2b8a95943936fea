import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const moduleAt = (name: string) => pathToFileURL(join(root, 'bootstrap', name)).href;
const { nodeComplaint } = await import(moduleAt('node-version.mjs'));
const { withLock } = await import(moduleAt('lock.mjs'));
const { runSteps, StepError } = await import(moduleAt('steps.mjs'));

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-bootstrap-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('the Node that is needed', () => {
  it.each([
    ['18.20.4', true],
    ['20.2.0', true],
    ['20.3.0', false],
    ['22.1.0', false],
    ['24.0.0', false],
  ])('%s is refused: %s', (version, isRefused) => {
    const complaint = nodeComplaint(version);
    expect(complaint !== undefined).toBe(isRefused);
    if (isRefused) expect(complaint).toMatch(new RegExp(`needs Node 20\\.3 or later.*${version}`));
  });
});

describe('a lock', () => {
  it('lets one in at a time', async () => {
    const path = join(directory, 'one.lock');
    let inside = 0;
    let most = 0;
    const enter = () =>
      withLock(path, async () => {
        inside += 1;
        most = Math.max(most, inside);
        await sleep(20);
        inside -= 1;
      });
    await Promise.all([enter(), enter(), enter()]);
    expect(most).toBe(1);
    expect(existsSync(path)).toBe(false);
  });

  it('is given up when what is done under it fails', async () => {
    const path = join(directory, 'failing.lock');
    await expect(withLock(path, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(existsSync(path)).toBe(false);
  });

  it('of a process that was killed is taken over', async () => {
    const path = join(directory, 'killed.lock');
    const script = `import { withLock } from ${JSON.stringify(moduleAt('lock.mjs'))};
      await withLock(${JSON.stringify(path)}, async () => { console.log('in'); await new Promise((r) => setTimeout(r, 60000)); });`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    const waitedFor: unknown[] = [];
    const waiting = withLock(
      path,
      async () => 'in',
      (pid: unknown) => waitedFor.push(pid),
    );
    await sleep(300);
    holder.kill('SIGKILL');
    expect(await waiting).toBe('in');
    expect(waitedFor).toEqual([holder.pid]);
  });

  it.each([
    ['of no process', `999999999 ${hostname()}\n`],
    ['without an owner', ''],
  ])('%s is taken over', async (_, content) => {
    const path = join(directory, 'stale.lock');
    writeFileSync(path, content);
    expect(await withLock(path, async () => 'in')).toBe('in');
  });
});

describe('steps', () => {
  const recorded = () => {
    const lines: string[] = [];
    return { lines, out: { write: (text: string) => lines.push(text) } };
  };

  it('say nothing when everything was done before', async () => {
    const { lines, out } = recorded();
    await runSteps([{ name: 'a', isDone: () => true, run: () => expect.unreachable() }], out);
    expect(lines).toEqual([]);
  });

  it('say one line with the time for what they did', async () => {
    const { lines, out } = recorded();
    await runSteps([{ name: 'a', isDone: () => false, run: async () => 'made it' }], out);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^\u2713 a +\d+\.\d s {2}made it\n$/);
  });

  it('stop at the first that fails', async () => {
    const { lines, out } = recorded();
    const failing = { name: 'a', isDone: () => false, run: () => Promise.reject(new StepError('by hand: do it')) };
    const next = { name: 'b', isDone: () => false, run: () => expect.unreachable() };
    await expect(runSteps([failing, next], out)).rejects.toThrow('by hand: do it');
    expect(lines.join('')).toMatch(/^\u2717 a .*failed\n$/);
  });

  it('say what to do by hand where a directory cannot be made', async () => {
    const { out } = recorded();
    writeFileSync(join(directory, 'file'), '');
    const step = {
      name: 'a',
      lock: () => join(directory, 'file', 'a.lock'),
      isDone: () => false,
      run: () => expect.unreachable(),
    };
    await expect(runSteps([step], out)).rejects.toThrow(/file.*\nBy hand: make the directory writable.*XDG_CACHE_HOME/);
  });

  it('say the same of a read-only file system, where Node says that the directory is missing', async () => {
    const { out } = recorded();
    const refused = Object.assign(new Error('ENOENT: mkdir'), { code: 'ENOENT', syscall: 'mkdir' });
    const step = { name: 'a', isDone: () => false, run: () => Promise.reject(refused) };
    await expect(runSteps([step], out)).rejects.toThrow(/\nBy hand: make the directory writable/);
  });

  it('find done what another process did while they waited', async () => {
    const { lines, out } = recorded();
    const lock = join(directory, 'steps.lock');
    let done = false;
    const other = withLock(lock, async () => {
      await sleep(100);
      done = true;
    });
    await runSteps([{ name: 'a', lock: () => lock, isDone: () => done, run: () => expect.unreachable() }], out);
    await other;
    expect(lines[0]).toContain('made ready by another process');
  });
});

describe('in a clone of its own', () => {
  /** The least that the steps look at; npm and the compiler are stand-ins that take a second and can be killed. */
  function clone(name: string) {
    const path = join(directory, name);
    for (const folder of ['bin', 'cli', 'bootstrap']) mkdirSync(join(path, folder), { recursive: true });
    for (const file of ['node-version', 'lock', 'steps', 'models', 'wheel', 'temporal-binary']) {
      writeFileSync(join(path, 'bootstrap', `${file}.mjs`), readFileSync(join(root, 'bootstrap', `${file}.mjs`)));
    }
    writeFileSync(join(path, 'bin', 'zigzag.mjs'), readFileSync(join(root, 'bin', 'zigzag.mjs')));
    writeFileSync(join(path, 'package.json'), '{"type":"module"}');
    writeFileSync(
      join(path, 'package-lock.json'),
      JSON.stringify({ packages: { 'node_modules/typescript': { version: '1.0.0' } } }),
    );
    writeFileSync(join(path, 'tsconfig.json'), '{}');
    writeFileSync(join(path, 'cli', 'main.ts'), 'first');
    writeFileSync(
      join(path, 'bin', 'npm'),
      `#!/bin/sh
echo npm >> calls
rm -rf node_modules && mkdir -p node_modules/typescript/bin && sleep "\${NPM_SECONDS:-0}"
cat > node_modules/typescript/bin/tsc <<'END'
import fs from 'node:fs';
fs.appendFileSync('calls', 'tsc\\n');
fs.mkdirSync('dist/cli', { recursive: true });
fs.writeFileSync('dist/cli/main.js', 'console.log("ran", process.argv.slice(2).join(" "));');
END
`,
      { mode: 0o755 },
    );
    const env = { ...process.env, PATH: `${join(path, 'bin')}:${process.env.PATH}` };
    return {
      path,
      start: (extra = {}) =>
        spawn(process.execPath, ['bin/zigzag.mjs', 'hello'], {
          cwd: path,
          env: { ...env, ...extra },
          detached: true,
          stdio: 'ignore',
        }),
      run: () => spawnSync(process.execPath, ['bin/zigzag.mjs', 'hello'], { cwd: path, env, encoding: 'utf8' }),
      calls: () => readFileSync(join(path, 'calls'), 'utf8').trim().split('\n'),
    };
  }

  it('zigzag installs and compiles once, and again only for what changed', () => {
    const { path, run, calls } = clone('fresh');
    const first = run();
    expect(first).toMatchObject({ status: 0, stdout: 'ran hello\n' });
    expect(first.stderr).toMatch(/^\u2713 packages .* installed\n\u2713 build .* compiled\n$/);
    expect(run()).toMatchObject({ status: 0, stdout: 'ran hello\n', stderr: '' });
    expect(calls()).toEqual(['npm', 'tsc']);
    writeFileSync(join(path, 'cli', 'main.ts'), 'second');
    expect(run().status).toBe(0);
    expect(calls()).toEqual(['npm', 'tsc', 'tsc']);
    writeFileSync(
      join(path, 'package-lock.json'),
      JSON.stringify({ packages: { 'node_modules/other': { version: '2.0.0' } } }),
    );
    expect(run().status).toBe(0);
    expect(calls()).toEqual(['npm', 'tsc', 'tsc', 'npm', 'tsc']);
  });

  it('an installation that was killed in the middle is done again', async () => {
    const { path, start, run, calls } = clone('killed');
    const victim = start({ NPM_SECONDS: '30' });
    while (!existsSync(join(path, 'node_modules'))) await sleep(20);
    process.kill(-(victim.pid as number), 'SIGKILL');
    await once(victim, 'exit');
    expect(run()).toMatchObject({ status: 0, stdout: 'ran hello\n' });
    expect(calls()).toEqual(['npm', 'npm', 'tsc']);
  });

  it('what was compiled from a source that is gone is removed, and nothing else', () => {
    const { path, run } = clone('orphans');
    mkdirSync(join(path, 'dist', 'test'), { recursive: true });
    for (const name of ['old.test.js', 'old.test.js.map', 'bundle.js'])
      writeFileSync(join(path, 'dist', 'test', name), '');
    expect(run().status).toBe(0);
    const kept = ['old.test.js', 'old.test.js.map', 'bundle.js'].filter((name) =>
      existsSync(join(path, 'dist', 'test', name)),
    );
    expect(kept).toEqual(['bundle.js']);
  });

  it('a failing installation says what npm said and what to do by hand', () => {
    const { path, run } = clone('failing');
    writeFileSync(join(path, 'bin', 'npm'), '#!/bin/sh\necho "no network" >&2\nexit 7\n', { mode: 0o755 });
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toMatch(/no network[\s\S]*npm ci .* exit code 7[\s\S]*By hand: run `npm ci --ignore-scripts`/);
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});
