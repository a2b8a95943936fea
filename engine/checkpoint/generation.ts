/**
 * The generations of a checkpoint on disk: what each holds, and whether it is whole.
 *
 * A generation is a state file and a manifest that gives its sum. The manifest takes its name last, in one step, so it is
 * there completely or not at all; the generation before stays until then. The KV cache lies in files of its own, which
 * only grow, with a sum for each sequence (`kv-file.ts`).
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import type { EngineResult } from '../requests.js';
import type { SavedSequence } from '../sequence.js';
import type { Checksum } from './checksum.js';

/** Raised when the files change their meaning. */
const FORMAT = 1;

/** What a checkpoint is of. Another one is of no use to a run. */
export interface CheckpointIdentity {
  /** Of the engine's arithmetic. */
  readonly numerics: string;
  readonly model: string;
  /** Sum of all requests of the run. */
  readonly requests: string;
}

/** How far an attempt had come. */
export interface Marks {
  /** Tells attempts apart: the first generation that this one writes. */
  readonly attempt: number;
  readonly sweeps: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
}

export interface Manifest {
  readonly format: number;
  readonly identity: CheckpointIdentity;
  /** Of the worker that wrote it: a later owner has a larger one. */
  readonly fencingToken: number;
  readonly generation: number;
  readonly marks: Marks;
  /** The next generation is there before so many more sweeps have passed. */
  readonly periodSweeps: number;
  /** As this attempt measured it; null before anything was computed. */
  readonly promptRowsPerSecond: number | null;
  readonly state: { readonly bytes: number; readonly sha256: string };
}

/** Where the keys and values of a sequence's first positions lie, in pieces that are records (`memory/kv-records.ts`). */
export interface KvExtent {
  /** Number of the KV file. */
  readonly file: number;
  readonly offset: number;
  /** Positions of each piece that was written, in order; pieces lie one behind the other. */
  readonly pieces: readonly number[];
  readonly checksum: Checksum;
}

export function positionsOf({ pieces }: Pick<KvExtent, 'pieces'>): number {
  return pieces.reduce((sum, positions) => sum + positions, 0);
}

/** Everything by the place of its request in the run. */
export interface SavedState {
  readonly results: readonly (readonly [number, EngineResult])[];
  readonly sequences: readonly (readonly [number, SavedSequence])[];
  readonly kv: readonly (readonly [number, KvExtent])[];
}

export interface Generation {
  readonly manifest: Manifest;
  readonly state: SavedState;
}

export interface Found {
  readonly generation: Generation | undefined;
  /** What could not be used, and why. */
  readonly problems: readonly string[];
  /** Larger than every number that is taken. */
  readonly nextNumber: number;
}

export function manifestName(generation: number): string {
  return `manifest-${generation}.json`;
}

export function stateName(generation: number): string {
  return `state-${generation}.bin`;
}

export function kvName(file: number): string {
  return `kv-${file}.bin`;
}

/** Of the files above; undefined for any other. */
export function numberOf(name: string): number | undefined {
  const digits = /^(?:manifest-(\d+)\.json(?:\.tmp)?|state-(\d+)\.bin|kv-(\d+)\.bin)$/.exec(name)?.slice(1).join('');
  return digits ? Number(digits) : undefined;
}

export function encodeState(state: SavedState): Uint8Array {
  return serialize(state);
}

/** @param state the file's bytes */
export function describeState(state: Uint8Array): Manifest['state'] {
  return { bytes: state.length, sha256: sha256(state) };
}

/** One line of JSON, and its sum in another. */
export function encodeManifest(manifest: Omit<Manifest, 'format'>): string {
  const line = JSON.stringify({ format: FORMAT, ...manifest });
  return `${line}\n${sha256(line)}\n`;
}

/** The newest whole generation of this run. */
export function findGeneration(directory: string, identity: CheckpointIdentity): Found {
  const names = readdirSync(directory);
  const problems: string[] = [];
  const numbers = names.flatMap((name) => numberOf(name) ?? []);
  const written = names.flatMap((name) => (name.endsWith('.json') ? (numberOf(name) ?? []) : []));
  const nextNumber = Math.max(0, ...numbers) + 1;
  for (const number of written.sort((a, b) => b - a)) {
    try {
      return { generation: readGeneration(directory, number, identity), problems, nextNumber };
    } catch (error) {
      problems.push(`checkpoint ${number} cannot be used: ${error instanceof Error ? error.message : error}`);
    }
  }
  return { generation: undefined, problems, nextNumber };
}

/** @throws Error whose message says why it cannot be used */
function readGeneration(directory: string, number: number, identity: CheckpointIdentity): Generation {
  const manifest = decodeManifest(readFileSync(join(directory, manifestName(number)), 'utf8'));
  if (manifest.format !== FORMAT) throw new Error(`its format is ${manifest.format}, this engine writes ${FORMAT}`);
  for (const [key, what] of Object.entries(identityNames) as [keyof CheckpointIdentity, string][]) {
    const [found, needed] = [manifest.identity[key], identity[key]];
    if (found !== needed) throw new Error(`it is of ${what} (${found}, not ${needed})`);
  }
  return { manifest, state: readState(join(directory, stateName(number)), manifest.state) };
}

const identityNames: Readonly<Record<keyof CheckpointIdentity, string>> = {
  numerics: 'an engine with another arithmetic',
  model: 'another model',
  requests: 'another run',
};

function decodeManifest(text: string): Manifest {
  const [line = '', sum] = text.split('\n');
  if (sum !== sha256(line)) throw new Error('its manifest is damaged');
  return JSON.parse(line) as Manifest;
}

function readState(path: string, { bytes, sha256: expected }: Manifest['state']): SavedState {
  const { size } = statSync(path);
  if (size !== bytes) throw new Error(`its state is damaged: needed ${bytes} B, found ${size} B`);
  const state = readFileSync(path);
  if (sha256(state) !== expected) throw new Error('its state is damaged: the bytes do not fit their sum');
  return deserialize(state) as SavedState;
}

function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
