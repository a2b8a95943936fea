/**
 * Tiers and their accounts: every byte that the engine holds is reserved on one of them first.
 *
 * A tier never holds more than its capacity; what does not fit is refused before it is allocated.
 */
import { EngineError } from '../errors.js';

export type TierName = 'gpu' | 'cpu' | 'disk';

/** Bytes held; given back once. */
export interface Lease {
  readonly bytes: number;
  release(): void;
}

export class Tier {
  private used = 0;
  private peak = 0;

  constructor(
    readonly name: TierName,
    readonly capacityBytes: number,
  ) {}

  get usedBytes(): number {
    return this.used;
  }

  get peakBytes(): number {
    return this.peak;
  }

  get freeBytes(): number {
    return this.capacityBytes - this.used;
  }

  /**
   * @param what is held, for the message
   * @throws EngineError OUT_OF_MEMORY if the bytes do not fit
   */
  reserve(bytes: number, what: string): Lease {
    if (bytes > this.freeBytes) throw this.outOfMemory(bytes, what);
    this.used += bytes;
    this.peak = Math.max(this.peak, this.used);
    let held = true;
    return {
      bytes,
      release: () => {
        if (held) this.used -= bytes;
        held = false;
      },
    };
  }

  private outOfMemory(needBytes: number, what: string): EngineError {
    const { name: tier, freeBytes, capacityBytes } = this;
    const change = {
      gpu: 'lower gpuBatchSize or the share of weights on the gpu, or raise --device-memory',
      cpu: 'lower gpuBatchSize, keep more on disk, or raise --host-memory',
      disk: 'free space in --offload-dir, or raise --disk-memory',
    }[tier];
    const message = `${tier} tier: ${what} needs ${needBytes} B, ${freeBytes} B of ${capacityBytes} B free; ${change}`;
    return new EngineError('OUT_OF_MEMORY', message, { tier, needBytes, freeBytes, capacityBytes });
  }
}

/** The tiers of one engine. */
export type Tiers = Readonly<Record<TierName, Tier>>;

export function openTiers(capacityBytes: Readonly<Record<TierName, number>>): Tiers {
  const tier = (name: TierName) => new Tier(name, capacityBytes[name]);
  return { gpu: tier('gpu'), cpu: tier('cpu'), disk: tier('disk') };
}
