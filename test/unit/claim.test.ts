import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { claimShard, removeCheckpoints, removeClaims } from '../../activities/claim.js';
import { writePart } from '../../datasets/output.js';

let runDir: string;
beforeEach(() => {
  runDir = mkdtempSync(join(tmpdir(), 'zigzag-claim-'));
});
afterEach(() => rmSync(runDir, { recursive: true }));

describe('the claim on a shard', () => {
  it('is a directory of its own, which goes away with everything in it when the part is there', () => {
    const claim = claimShard(runDir, 3, 1000);
    expect(claim.path).toBe('checkpoints/00003/owner-1000');
    writeFileSync(join(claim.directory, 'manifest-1.json'), '{}');
    claim.release();
    expect(readdirSync(runDir)).toEqual([]);
  });

  it('passes to a later attempt with what was kept; the earlier one writes nothing more', () => {
    const earlier = claimShard(runDir, 3, 1000);
    writeFileSync(join(earlier.directory, 'kept'), 'x');
    const later = claimShard(runDir, 3, 2000);
    expect(readdirSync(later.directory)).toEqual(['kept']);
    expect(readdirSync(dirname(later.directory))).toEqual(['owner-2000']);
    let acted = false;
    const act = () => {
      acted = true;
    };
    expect(() => earlier.write(act)).toThrow(expect.objectContaining({ code: 'CANCELLED' }));
    expect(acted).toBe(false);
    earlier.release();
    expect(readdirSync(later.directory)).toEqual(['kept']);
    later.write(act);
    expect(acted).toBe(true);
  });

  it('is lost even in the middle of writing the part: the part does not take its place', () => {
    const earlier = claimShard(runDir, 0, 1000);
    const part = join(runDir, 'outputs', '00000.parquet');
    const options = { fingerprint: '', shardSha256: '', engineVersion: '', columns: [], workplace: earlier.directory };
    const rows = function* () {
      claimShard(runDir, 0, 2000);
      yield* [];
    };
    expect(() => earlier.write(() => writePart(part, rows(), options))).toThrow(/a later attempt has taken this shard/);
    expect(existsSync(part)).toBe(false);
  });

  it('does not go back to an earlier attempt that starts late', () => {
    const later = claimShard(runDir, 0, 2000);
    expect(() => claimShard(runDir, 0, 1000)).toThrow(/owner-2000: a later attempt owns this shard/);
    expect(existsSync(later.directory)).toBe(true);
  });

  it('leaves no other owner, should a first one have been made twice', () => {
    mkdirSync(join(runDir, 'checkpoints', '00000', 'owner-0'), { recursive: true });
    mkdirSync(join(runDir, 'checkpoints', '00000', 'owner-5'));
    claimShard(runDir, 0, 7);
    expect(readdirSync(join(runDir, 'checkpoints', '00000'))).toEqual(['owner-7']);
  });

  it('of each shard is its own, and all go when the shards are made anew', () => {
    claimShard(runDir, 0, 1000);
    claimShard(runDir, 1, 1000);
    removeClaims(runDir, 1);
    expect(readdirSync(join(runDir, 'checkpoints'))).toEqual(['00000']);
    removeCheckpoints(runDir);
    expect(readdirSync(runDir)).toEqual([]);
  });
});
