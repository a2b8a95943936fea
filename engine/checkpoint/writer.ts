/**
 * Writes checkpoints beside the computation: between two sweeps the state is copied, and then written while the next
 * sweeps are computed.
 *
 * Tokens and answers are few bytes and are in every checkpoint. Keys and values are added to what was written of them
 * before, as far as the buffer reaches, those of the sequences that have the most still to do first; what is missing is
 * computed anew from the tokens.
 */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '../errors.js';
import { type AlignedBuffer, alignUp, BLOCK_BYTES } from '../memory/aligned-buffer.js';
import { reasonOf } from '../memory/direct-file-errors.js';
import { recordBytes, recordValues } from '../memory/kv-records.js';
import type { Lease, Tier } from '../memory/tier.js';
import type { ModelConfig } from '../model/config.js';
import type { EngineResult } from '../requests.js';
import type { Seat } from '../schedule/gpu-batch.js';
import type { Sequence } from '../sequence.js';
import {
  type CheckpointIdentity,
  describeState,
  encodeManifest,
  encodeState,
  type KvExtent,
  kvName,
  type Marks,
  manifestName,
  positionsOf,
  stateName,
} from './generation.js';
import { removeAllBut, writeFlushed, writeManifest } from './generation-files.js';
import { KvFile, type KvWrite } from './kv-file.js';
import { openPace } from './pace.js';
import { openProgress, type ProgressFile } from './progress-file.js';

/** Keys and values of one checkpoint, in memory while they are written. */
const BUFFER_BYTES = 32 * 2 ** 20;
/** Of one piece: what must be in memory to read it back. */
const PIECE_BYTES = 8 * 2 ** 20;
/**
 * What writing takes of a core, as measured: past the page cache next to nothing, through it a copy and the search for
 * memory. The time that it takes is no measure, as a product that keeps this thread hides when it ended.
 */
const CORE_SECONDS_PER_BYTE = { direct: 1e-10, ordinary: 2.5e-9 } as const;
/** A run that is given up writes what is missing, but not for ever: a worker that shuts down has half a minute. */
const GIVE_UP_SECONDS = 10;

export interface WriterParts {
  /** Exists, and is this attempt's own: once it is gone or moved, another attempt has taken over. */
  readonly directory: string;
  readonly fencingToken: number;
  readonly costShare: number;
  readonly identity: CheckpointIdentity;
  readonly config: ModelConfig;
  /** Holds what is being written. */
  readonly tier: Tier;
  /** By place of their requests. */
  readonly sequences: ReadonlyMap<Sequence, number>;
  /** Answers of earlier attempts. */
  readonly answered: ReadonlyMap<number, EngineResult>;
  /** What an earlier attempt kept of a sequence, unless it is known to be damaged. */
  readonly inherited: (index: number) => KvExtent | undefined;
  /** Positions of the longest sequence. */
  readonly longest: number;
  readonly firstGeneration: number;
  /** Of the generation that this attempt began with. */
  readonly previousFiles: readonly string[];
  readonly promptRowsPerSecond: () => number | null;
}

type Counts = Pick<Marks, 'promptTokens' | 'generatedTokens'>;

export class CheckpointWriter {
  /** Complete ones. */
  written = 0;
  /** Why none is written any more. */
  problem: string | undefined;
  private readonly opened = performance.now();
  private readonly pace;
  private progress: ProgressFile | undefined;
  private readonly kv: KvFile;
  private generation: number;
  private previousFiles: readonly string[];
  private marks: Marks;
  private underWay: Promise<void> = Promise.resolve();
  private buffer: AlignedBuffer | undefined;
  private lease: Lease | undefined;

  constructor(private readonly parts: WriterParts) {
    const { directory, firstGeneration, costShare, longest, config } = parts;
    this.pace = openPace(costShare);
    this.kv = new KvFile(directory, firstGeneration, longest, recordBytes(config));
    this.generation = firstGeneration;
    this.previousFiles = parts.previousFiles;
    this.marks = { attempt: firstGeneration, sweeps: 0, promptTokens: 0, generatedTokens: 0 };
  }

  /** @throws EngineError CANCELLED where another attempt has taken over */
  async afterSweep(seats: readonly Seat[], counts: Counts): Promise<void> {
    if (this.problem) return;
    this.requireOwnership();
    this.marks = { ...this.marks, ...counts, sweeps: this.marks.sweeps + 1 };
    try {
      this.progress ??= openProgress(this.parts.directory);
      this.progress.mark(this.marks);
    } catch (error) {
      await this.fail(error, this.generation);
      return;
    }
    if (!this.pace.due(this.marks.sweeps, this.seconds)) return;
    await this.underWay;
    if (!this.problem) await this.begin(seats);
  }

  /** The run ends before its time: writes all that is known, as far as that takes no more than some seconds. */
  async giveUp(seats: readonly Seat[]): Promise<void> {
    const until = this.seconds + GIVE_UP_SECONDS;
    do {
      await this.underWay;
      if (this.problem || !existsSync(this.parts.directory)) return;
      await this.begin(seats);
      await this.underWay;
    } while (
      this.lacking(seats).length > 0 &&
      this.seconds < until &&
      this.roomBytes >= recordBytes(this.parts.config)
    );
  }

  async close(): Promise<void> {
    await this.underWay;
    this.releaseBuffer();
    await this.kv.close();
    this.progress?.close();
  }

  private get seconds(): number {
    return (performance.now() - this.opened) / 1000;
  }

  /** Of the buffer at most, in whole blocks. */
  private get roomBytes(): number {
    const free = this.parts.tier.freeBytes + (this.lease?.bytes ?? 0);
    return Math.floor(Math.min(BUFFER_BYTES, free) / BLOCK_BYTES) * BLOCK_BYTES;
  }

  /** Within a budget, what is free between two sweeps is needed in the next. */
  private get isBounded(): boolean {
    return Number.isFinite(this.parts.tier.capacityBytes);
  }

  private requireOwnership(): void {
    const { directory } = this.parts;
    if (existsSync(directory)) return;
    throw new EngineError('CANCELLED', `${directory}: another worker has taken this work over`, { directory });
  }

  /** Copies the state, and begins to write it. */
  private async begin(seats: readonly Seat[]): Promise<void> {
    const start = performance.now();
    const generation = this.generation++;
    try {
      const state = this.stateOf;
      const live = new Set(state.sequences.map(([index]) => index));
      this.kv.keepOnly(live, generation);
      const writes = await this.takeKv(seats, generation);
      const kv = [...live].flatMap((index) => {
        const extent = this.bestExtent(index);
        return extent ? [[index, extent] as const] : [];
      });
      const bytes = encodeState({ ...state, kv });
      if (this.isBounded) {
        await this.kv.write(writes.splice(0));
        this.releaseBuffer();
      }
      this.pace.began(this.marks.sweeps, this.seconds);
      const copySeconds = (performance.now() - start) / 1000;
      const files = [...new Set(kv.map(([, { file }]) => kvName(file)))];
      const one = { generation, marks: this.marks, writes, state: bytes, files, copySeconds };
      this.underWay = this.write(one).catch((error: unknown) => this.fail(error, generation));
    } catch (error) {
      await this.fail(error, generation);
    }
  }

  private get stateOf() {
    const { sequences, answered } = this.parts;
    const results: [number, EngineResult][] = [...answered];
    const live = [];
    for (const [sequence, index] of sequences) {
      if (sequence.finished) results.push([index, sequence.result()]);
      else if (sequence.kind === 'generate' && sequence.tokens.length > 0) live.push([index, sequence.save()] as const);
    }
    return { results, sequences: live };
  }

  /** What has been written by this attempt, unless an earlier one's reaches further. */
  private bestExtent(index: number): KvExtent | undefined {
    const [own, inherited] = [this.kv.extent(index), this.parts.inherited(index)];
    return own && positionsOf(own) >= (inherited ? positionsOf(inherited) : 0) ? own : inherited;
  }

  /** Positions that are computed and not yet written; those of the sequences that have the most to do first. */
  private lacking(seats: readonly Seat[]) {
    const tokensLeft = ({ request, tokens }: Seat['sequence']) => request.maxNewTokens - tokens.length;
    return seats
      .map((seat) => {
        const index = this.parts.sequences.get(seat.sequence)!;
        return { seat, index, from: this.kv.positions(index), to: seat.sequence.length - 1 };
      })
      .filter(({ from, to }) => from < to)
      .sort((a, b) => tokensLeft(b.seat.sequence) - tokensLeft(a.seat.sequence));
  }

  private async takeKv(seats: readonly Seat[], generation: number): Promise<KvWrite[]> {
    const { config } = this.parts;
    const [rowBytes, width] = [recordBytes(config), recordValues(config)];
    const lacking = this.lacking(seats);
    if (lacking.length === 0 || this.roomBytes < rowBytes) return [];
    const needed = lacking.reduce((sum, { from, to }) => sum + piecesBytes(to - from, rowBytes), 0);
    const buffer = this.bufferOf(Math.min(needed, this.roomBytes));
    const pieceRows = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
    const writes: KvWrite[] = [];
    let taken = 0;
    for (const { seat, index, from, to } of lacking) {
      for (let at = from; at < to; ) {
        const positions = Math.min(to - at, pieceRows, Math.floor((buffer.bytes - taken) / rowBytes));
        if (positions === 0) return writes;
        const records = new Float32Array(buffer.buffer, buffer.byteOffset + taken, positions * width);
        await seat.copy('take', [at, at + positions], records);
        writes.push(this.kv.append(index, positions, records, generation));
        taken += alignUp(records.byteLength);
        at += positions;
      }
    }
    return writes;
  }

  /** Kept from one checkpoint to the next: memory that is touched for the first time is slow. */
  private bufferOf(bytes: number): AlignedBuffer {
    if (this.buffer && this.buffer.bytes >= bytes) return this.buffer;
    this.releaseBuffer();
    this.lease = this.parts.tier.reserve(alignUp(bytes), 'keys and values on their way to a checkpoint');
    this.buffer = this.kv.allocate(bytes);
    return this.buffer;
  }

  private releaseBuffer(): void {
    this.lease?.release();
    this.lease = undefined;
    this.buffer = undefined;
  }

  private async write(one: {
    readonly generation: number;
    readonly marks: Marks;
    readonly writes: readonly KvWrite[];
    readonly state: Uint8Array;
    /** KV files that the state refers to. */
    readonly files: readonly string[];
    readonly copySeconds: number;
  }): Promise<void> {
    const { directory, identity, fencingToken } = this.parts;
    const { generation, marks, writes, state, files, copySeconds } = one;
    await this.kv.write(writes);
    const kvBytes = writes.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const { direct, ordinary } = CORE_SECONDS_PER_BYTE;
    const writeSeconds = kvBytes * (this.kv.direct ? direct : ordinary) + state.length * ordinary;
    await writeFlushed(join(directory, stateName(generation)), state);
    const periodSweeps = this.pace.cost(copySeconds + writeSeconds);
    const manifest = encodeManifest({
      identity,
      fencingToken,
      generation,
      marks,
      periodSweeps,
      promptRowsPerSecond: this.parts.promptRowsPerSecond(),
      state: describeState(state),
    });
    await writeManifest(directory, generation, manifest);
    this.pace.complete();
    this.written++;
    const own = [manifestName(generation), stateName(generation), ...files];
    await removeAllBut(directory, [...own, ...this.previousFiles, kvName(this.kv.number)]);
    this.previousFiles = own;
  }

  /** The checkpoints before stay good, and the run goes on. */
  private async fail(error: unknown, generation: number): Promise<void> {
    const { directory } = this.parts;
    if (!existsSync(directory)) return;
    const reason = reasonOf(error instanceof EngineError ? (error.cause ?? error) : error);
    const what = fullReasons.includes(reason) ? 'the disk is full' : `cannot be written (${reason})`;
    this.problem = `${directory}: ${what}; the run goes on without further checkpoints`;
    for (const name of [`${manifestName(generation)}.tmp`, stateName(generation)]) {
      await rm(join(directory, name), { force: true }).catch(() => undefined);
    }
  }
}

/** At most: should every position be a piece of its own. */
function piecesBytes(positions: number, rowBytes: number): number {
  return positions * alignUp(rowBytes);
}

const fullReasons = ['ENOSPC', 'EDQUOT', 'EFBIG'];
