/** Writes small model files, so that tests can damage them: the formats' descriptions, not the engine's readers, are the source. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface NewTensor {
  readonly name: string;
  /** Of safetensors: F32, BF16; of GGUF: the number of the type. */
  readonly type: string | number;
  /** The slowest dimension first. */
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A directory that is gone after `use`. */
export async function withDirectory<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'zigzag-model-'));
  try {
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export function safetensorsBytes(tensors: readonly NewTensor[]): Buffer {
  const header: Record<string, unknown> = {};
  let at = 0;
  for (const { name, type, shape, bytes } of tensors) {
    header[name] = { dtype: type, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  return withHeader(header, Buffer.concat(tensors.map(({ bytes }) => bytes)));
}

/** A safetensors file whose header is given as it should be written, right or wrong. */
export function withHeader(header: unknown, data: Uint8Array): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, data]);
}

/** A value of GGUF metadata with its type; arrays take the type of their elements. */
export type Typed = readonly [
  type: 'u32' | 'i32' | 'u64' | 'f32' | 'bool' | 'text' | 'texts' | 'i32s' | 'f32s',
  value: unknown,
];

export function ggufBytes(
  metadata: Readonly<Record<string, Typed>>,
  tensors: readonly NewTensor[] = [],
  alignment = 32,
): Buffer {
  const parts: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(Object.keys(metadata).length)];
  for (const [key, [type, value]] of Object.entries(metadata)) parts.push(text(key), typed(type, value));
  let at = 0;
  const data: Buffer[] = [];
  for (const tensor of tensors) {
    const dimensions = [...tensor.shape].reverse();
    parts.push(text(tensor.name), u32(dimensions.length), ...dimensions.map(u64), u32(Number(tensor.type)), u64(at));
    const padded = Buffer.concat([tensor.bytes, Buffer.alloc(-tensor.bytes.length & (alignment - 1))]);
    data.push(padded);
    at += padded.length;
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc(-header.length & (alignment - 1)), ...data]);
}

export function floats(...values: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

function typed(type: Typed[0], value: unknown): Buffer {
  switch (type) {
    case 'u32':
      return Buffer.concat([u32(4), u32(value as number)]);
    case 'i32':
      return Buffer.concat([u32(5), i32(value as number)]);
    case 'u64':
      return Buffer.concat([u32(10), u64(value as number)]);
    case 'f32':
      return Buffer.concat([u32(6), f32(value as number)]);
    case 'bool':
      return Buffer.concat([u32(7), Buffer.from([value === true ? 1 : 0])]);
    case 'text':
      return Buffer.concat([u32(8), text(value as string)]);
    case 'texts':
      return array(8, (value as string[]).map(text));
    case 'i32s':
      return array(5, (value as number[]).map(i32));
    case 'f32s':
      return array(6, (value as number[]).map(f32));
  }
}

function array(type: number, values: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(9), u32(type), u64(values.length), ...values]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
function i32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}
function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
