/**
 * Hidden states that wait while attention computes, on any tier: the first rows stay where they are, the next go to the
 * cpu, the last to a file, and all are back when the residual is added.
 */
import type { ModelConfig } from '../model/config.js';
import type { Policy } from '../policy/policy.js';
import type { Trace } from '../trace.js';
import { alignedBuffer, alignUp, viewOf } from './aligned-buffer.js';
import type { DirectFile } from './direct-file.js';
import type { RunMemory } from './kv-tiers.js';
import { openScratch } from './scratch-file.js';
import type { Lease, TierName } from './tier.js';

export interface ParkedRows {
  /** (rows, hiddenSize) again; once. */
  restore(): Promise<Float32Array>;
}

export interface ActivationStore {
  /** Takes the array over. One is parked at a time. */
  park(hidden: Float32Array): Promise<ParkedRows>;
  /** Waits for what is under way, and gives everything back. */
  close(): Promise<void>;
}

/** @throws BAD_INPUT if some of them live on disk and the directory cannot be written to */
export function openActivations(
  { hiddenSize }: ModelConfig,
  { activations: fractions, overlap }: Policy,
  { tiers, computeTier, directory }: RunMemory,
  trace: Trace,
): ActivationStore {
  const stays = computeTier === 'cpu' ? fractions.gpu + fractions.cpu : fractions.gpu;
  if (stays === 1) return { park: async (hidden) => ({ restore: async () => hidden }), close: async () => {} };
  const file = fractions.disk > 0 ? openScratch(directory, 'activations') : undefined;
  const leases = new Set<Lease>();
  const hold = (tier: TierName, bytes: number) => {
    const lease = tiers[tier].reserve(bytes, 'a share of the hidden states');
    leases.add(lease);
  };
  const release = () => {
    for (const lease of leases) lease.release();
    leases.clear();
  };

  return {
    async park(hidden) {
      const rows = hidden.length / hiddenSize;
      const kept = hidden.slice(0, Math.round(stays * rows) * hiddenSize);
      const hostEnd = Math.round((fractions.gpu + fractions.cpu) * rows) * hiddenSize;
      const host = hidden.slice(kept.length, hostEnd);
      const disk = hidden.subarray(hostEnd);
      const [values, diskValues] = [hidden.length, disk.length];
      hold('cpu', host.byteLength);
      hold('disk', alignUp(disk.byteLength));
      trace.moved('activations', 2 * (host.byteLength + disk.byteLength));
      const written = file && disk.length > 0 ? writeOut(file, disk) : undefined;
      // The error reaches whoever restores; until then it must not count as unhandled.
      written?.catch(() => undefined);
      if (!overlap) await written;
      return {
        async restore() {
          const restored = new Float32Array(values);
          restored.set(kept);
          restored.set(host, kept.length);
          const read = written && (() => readBack(file!, diskValues, written));
          if (read) restored.set(await trace.wait('activations', read), hostEnd);
          release();
          return restored;
        },
      };
    },
    async close() {
      release();
      await file?.close();
    },
  };
}

/** In whole blocks, from the beginning of the file. */
async function writeOut(file: DirectFile, rows: Float32Array): Promise<void> {
  const blocks = viewOf(alignedBuffer(rows.byteLength, file));
  blocks.set(new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength));
  await file.write(blocks, 0);
}

async function readBack(file: DirectFile, values: number, written: Promise<void>): Promise<Float32Array> {
  const blocks = viewOf(alignedBuffer(values * Float32Array.BYTES_PER_ELEMENT, file));
  await written;
  await file.read(blocks, 0, 'hidden states');
  return new Float32Array(blocks.buffer, blocks.byteOffset, values);
}
