/** The `engine` key of a pipeline: how the model is run. */
import { resolve } from 'node:path';
import { z } from 'zod';
import { parseBytes, SIZE_FORM } from './sizes.js';

export interface EngineSettings {
  readonly device: 'cpu';
  /** `auto`, or the absolute path of a file with values of a policy. */
  readonly policy: string;
  readonly backend: 'onnx' | 'reference';
  readonly threads?: number;
  readonly gpuBatchSize?: number;
  readonly numGpuBatches?: number;
  readonly schedule?: 'continuous' | 'block';
  readonly overlap?: boolean;
  /** With it the model runs from an offload store. */
  readonly hostMemoryBytes?: number;
  readonly diskMemoryBytes?: number;
  /** Where offload stores are made, absolute; default: in the cache. */
  readonly offloadDir?: string;
  readonly weightBits?: 4 | 8 | 16 | 32;
  /** Of the products; 8 is faster on a processor with VNNI. */
  readonly computeBits?: 8 | 32;
  /** Of keys and values in the cache; fewer take less room and change answers. */
  readonly kvBits?: 4 | 8 | 16 | 32;
  /** Of the positions that a new token sees, the share whose values it reads. */
  readonly sparseAttention?: number;
  /** Longest sequence to make room for, prompt and completion together. */
  readonly contextTokens?: number;
}

const count = z.int().min(1);
const size = z.union([z.string(), z.number()]).transform((value, context) => {
  const bytes = parseBytes(String(value));
  if (bytes !== undefined) return bytes;
  context.addIssue({ code: 'custom', message: SIZE_FORM });
  return z.NEVER;
});

export const engineSchema = z
  .strictObject({
    device: z.enum(['cpu']).default('cpu'),
    policy: z.string().min(1).default('auto'),
    backend: z.enum(['onnx', 'reference']).default('onnx'),
    threads: count.optional(),
    gpuBatchSize: count.optional(),
    numGpuBatches: count.optional(),
    schedule: z.enum(['continuous', 'block']).optional(),
    overlap: z.boolean().optional(),
    hostMemory: size.optional(),
    diskMemory: size.optional(),
    offloadDir: z.string().min(1).optional(),
    weightBits: z.literal([4, 8, 16, 32]).optional(),
    computeBits: z.literal([8, 32]).optional(),
    kvBits: z.literal([4, 8, 16, 32]).optional(),
    sparseAttention: z.number().gt(0).max(1).optional(),
    contextTokens: count.optional(),
  })
  .prefault({});

/** With paths made absolute, from the current directory. */
export function engineSettings({ device, policy, backend, ...rest }: z.output<typeof engineSchema>): EngineSettings {
  const { hostMemory, diskMemory, offloadDir, ...named } = rest;
  const sizes = { hostMemoryBytes: hostMemory, diskMemoryBytes: diskMemory };
  const home = { offloadDir: offloadDir === undefined ? undefined : resolve(offloadDir) };
  const placed = policy === 'auto' ? policy : resolve(policy);
  return { device, policy: placed, backend, ...onlyDefined({ ...named, ...sizes, ...home }) };
}

function onlyDefined<T extends object>(values: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [Key in keyof T]?: Exclude<T[Key], undefined> };
}
