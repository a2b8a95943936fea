/** The KV caches of one run: one for each GPU batch, and the buffers that they share. */
import type { ModelConfig } from '../model/config.js';
import type { Policy } from '../policy/policy.js';
import type { Trace } from '../trace.js';
import type { AlignmentProbe } from './aligned-buffer.js';
import { KvCache } from './kv-cache.js';
import { KvDisk } from './kv-disk.js';
import { placeSlots } from './kv-layout.js';
import { KvMemory } from './kv-memory.js';
import { KvStaging } from './kv-staging.js';
import type { Tiers } from './tier.js';

/** What a run may use. */
export interface RunMemory {
  readonly tiers: Tiers;
  readonly computeTier: 'gpu' | 'cpu';
  /** For files of what lives on disk. */
  readonly directory: string;
}

export interface KvCaches {
  readonly caches: readonly KvCache[];
  /** Waits until everything that was written is stored. */
  drain(): Promise<void>;
  /** Waits for what is under way, however it ends. */
  settle(): Promise<void>;
  /** Waits for what is under way, however it ends, and gives everything back. */
  close(): Promise<void>;
}

/** @throws BAD_INPUT if some of it lives on disk and the directory cannot be written to */
export function openKvCaches(config: ModelConfig, policy: Policy, memory: RunMemory, trace: Trace): KvCaches {
  const { tiers, computeTier, directory } = memory;
  const homes = placeSlots(policy.kv, policy.gpuBatchSize, computeTier);
  const [hostSlots, diskSlots] = [homes.host - homes.resident, homes.slots - homes.host];
  const disks = Array.from({ length: diskSlots > 0 ? policy.numGpuBatches : 0 }, () => {
    return new KvDisk(config, diskSlots, tiers.disk, directory);
  });
  const staging = new KvStaging(config, hostSlots + diskSlots, tiers[computeTier], disks[0]?.probe ?? anyAddress);
  const caches = Array.from({ length: policy.numGpuBatches }, (_, batch) => {
    const resident = new KvMemory(config, homes.resident, tiers[computeTier]);
    const host = new KvMemory(config, hostSlots, tiers.cpu);
    const disk = disks[batch];
    return new KvCache(config, {
      homes,
      resident,
      moving: disk ? [host, disk] : [host],
      staging,
      overlap: policy.overlap,
      trace,
    });
  });
  return {
    caches,
    drain: () => staging.drain(),
    settle: () => staging.settle(),
    async close() {
      await staging.close();
      for (const cache of caches) await cache.close();
    },
  };
}

const anyAddress: AlignmentProbe = { direct: false, accepts: () => true };
