/**
 * A model in an offload store, opened for computing: its resident rows in memory, the others streaming by.
 */
import type { LayerWeights } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { layerKind, layerTensors, mayStream, numSteps, type TensorName } from '../model/layers.js';
import type { Store } from '../model/store-read.js';
import type { ResidentRows } from '../schedule/streamed.js';
import { embeddingBufferBytes, embeddingReader, tiedRows } from './embeddings.js';
import { copyPacked, type PackedMatrix, packedBytes, packedRowBytes, sliceRows } from './packed.js';
import { type Fractions, type Placement, placeWeights, type WeightPart } from './placement.js';
import type { Lease, Tiers } from './tier.js';
import { WeightStream } from './weight-stream.js';

export interface OffloadOptions {
  readonly fractions: Fractions;
  readonly computeTier: 'gpu' | 'cpu';
  readonly partBytes: number;
  /** Parts in memory at a time, read or in use. */
  readonly buffers: number;
  readonly overlap: boolean;
  readonly onRead?: (bytes: number) => void;
  readonly onWait?: (seconds: number) => void;
}

export interface OffloadedModel {
  readonly resident: ResidentRows;
  readonly stream: WeightStream;
  /** Of what experts of a layer are made of, what is not resident: read in this order, ahead of use. */
  openExperts(layer: number, experts: readonly number[]): WeightStream;
  readonly placement: Placement;
  close(): Promise<void>;
}

/** @throws EngineError OUT_OF_MEMORY if a tier cannot hold its share, before anything is read. */
export async function openOffloaded(store: Store, tiers: Tiers, options: OffloadOptions): Promise<OffloadedModel> {
  const { config } = store;
  const placement = placeWeights(config, {
    ...options,
    rowBytes(layer, name) {
      const { type, shape } = store.tensor(layer, name);
      return packedRowBytes(type, shape[1]!);
    },
  });
  const leases: Lease[] = [];
  const hold = (tier: keyof Tiers, bytes: number, what: string) => leases.push(tiers[tier].reserve(bytes, what));
  hold('disk', store.file.sizeBytes, 'the offload store');

  const bytesOf = ({ layer, tensor, rowStart, rowEnd }: WeightPart) =>
    store.roomFor(store.tensor(layer, tensor), rowStart, rowEnd);
  /** A ring for parts like these. */
  function allocateBuffers(parts: readonly WeightPart[], what: string): Uint8Array[] {
    const bufferBytes = parts.reduce((most, part) => Math.max(most, bytesOf(part)), 0);
    return Array.from({ length: Math.min(options.buffers, parts.length) }, () => {
      hold(options.computeTier, bufferBytes, `a buffer for ${what} on their way`);
      return store.allocate(bufferBytes);
    });
  }
  const buffers = allocateBuffers(placement.parts, 'weights');
  const expertBuffers = allocateBuffers(allExpertParts(config, placement), 'experts');

  const rowBytes = embeddingBufferBytes(config, store.tensor(0, 'tokens').type);
  hold(options.computeTier, rowBytes, 'a buffer for embeddings');
  const rowBuffer = store.allocate(rowBytes);

  /** Rows [from, to) in a buffer of their own, held on a tier. */
  async function keep(tier: keyof Tiers, layer: number, name: TensorName, from: number, to: number) {
    if (from === to) return undefined;
    const tensor = store.tensor(layer, name);
    const room = store.roomFor(tensor, from, to);
    hold(tier, room, `layer ${layer} ${name}, rows ${from} to ${to},`);
    return store.readRows(tensor, from, to, store.allocate(room));
  }

  const layers: LayerWeights[] = [];
  const onHost = new Map<string, { readonly matrix: PackedMatrix; readonly firstRow: number }>();
  for (let layer = 0; layer < numSteps(config); layer++) {
    const weights: Partial<Record<TensorName, PackedMatrix>> = {};
    for (const tensor of layerTensors(config, layer)) {
      const { name, shape } = tensor;
      if (layerKind(config, layer) === 'embed' && name === 'tokens') continue;
      const homes = mayStream(tensor) ? placement.homes(layer, name) : undefined;
      const stays = homes ? homes[options.computeTier] : shape[0]!;
      const kept = await keep(options.computeTier, layer, name, 0, stays);
      if (kept) weights[name] = kept;
      if (!homes || options.computeTier === 'cpu') continue;
      const host = await keep('cpu', layer, name, homes.gpu, homes.cpu);
      if (host) onHost.set(`${layer} ${name}`, { matrix: host, firstRow: homes.gpu });
    }
    layers.push(weights);
  }

  async function load(part: WeightPart, buffer: Uint8Array): Promise<PackedMatrix> {
    const { layer, tensor, rowStart, rowEnd, home } = part;
    const host = home === 'cpu' ? onHost.get(`${layer} ${tensor}`)! : undefined;
    const matrix = host
      ? copyPacked(sliceRows(host.matrix, rowStart - host.firstRow, rowEnd - host.firstRow), buffer)
      : await store.readRows(store.tensor(layer, tensor), rowStart, rowEnd, buffer);
    options.onRead?.(packedBytes(matrix));
    return matrix;
  }

  const readEmbeddings = embeddingReader(store, rowBuffer, tiedRows(config, layers), options.onRead);
  /** Nothing is computed meanwhile: a sweep begins with its embeddings. */
  async function embeddings(ids: Int32Array): Promise<Float32Array> {
    const start = performance.now();
    const rows = await readEmbeddings(ids);
    options.onWait?.((performance.now() - start) / 1000);
    return rows;
  }

  const stream = new WeightStream(placement.parts, load, { ...options, buffers });
  return {
    resident: { layers, embeddings, partBytes: options.partBytes },
    stream,
    openExperts(layer, experts) {
      const parts = experts.flatMap((expert) => placement.expertParts(layer, expert));
      return new WeightStream(parts, load, { ...options, buffers: expertBuffers, once: true });
    },
    placement,
    async close() {
      await stream.close();
      for (const lease of leases) lease.release();
    },
  };
}

function allExpertParts(config: ModelConfig, placement: Placement): WeightPart[] {
  const { experts, numLayers } = config;
  const parts: WeightPart[] = [];
  for (let layer = 1; layer <= numLayers; layer++) {
    for (let expert = 0; expert < (experts?.count ?? 0); expert++) parts.push(...placement.expertParts(layer, expert));
  }
  return parts;
}
