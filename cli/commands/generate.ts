/** `zigzag generate`: one prompt, the engine alone, no Temporal. */
import type { Command } from 'commander';
import { Option } from 'commander';
import { readPolicy } from '../../activities/policy-file.js';
import { InputError } from '../../datasets/errors.js';
import type { ComputeBits } from '../../engine/backends/backend.js';
import type { KvBits, ScheduleName, WeightBits } from '../../engine/policy/policy.js';
import type { EngineOptions, GenerateRequest, GenerateResult, Prompt } from '../../engine/requests.js';
import { byteSize } from '../bytes.js';
import { chatPrompt } from '../chat.js';
import { openEngine } from '../engine.js';
import { interruptible } from '../interrupt.js';
import { obtainModel } from '../model-pull.js';
import { prepareOffloadStore } from '../offload.js';
import { collected, computeBits, numberBetween, tokenIds, unescaped, weightBits, wholeNumber } from '../options.js';
import { note, print, printJson } from '../print.js';
import { openBytesProgress } from '../progress.js';
import { formatCount } from '../terminal.js';

interface GenerateFlags {
  readonly prompt?: string;
  readonly promptIds?: readonly number[];
  readonly chat?: boolean;
  readonly system?: string;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly stop?: readonly string[];
  readonly logprobs?: number;
  readonly ignoreEos?: boolean;
  readonly backend: 'onnx' | 'reference';
  readonly threads?: number;
  readonly hostMemory?: number;
  readonly offloadDir?: string;
  readonly weightBits?: WeightBits;
  readonly computeBits?: ComputeBits;
  readonly policy: string;
  readonly kvBits?: KvBits;
  readonly sparseAttention?: number;
  readonly schedule?: ScheduleName;
  readonly overlap: boolean;
  readonly contextTokens?: number;
  readonly json?: boolean;
}

export function addGenerate(program: Command): void {
  program
    .command('generate')
    .description('answer one prompt with the engine alone')
    .argument('<model>', 'name of `zigzag model list`, GGUF file, directory, or owner/name on the hub')
    .option('--prompt <text>', 'the prompt; special tokens in it are read as such')
    .option('--prompt-ids <ids>', 'the prompt as token ids, such as 1,2,3', tokenIds)
    .option('--chat', "put the prompt into the model's own chat template, as the user's message")
    .option('--system <text>', 'system message of the chat')
    .option('--max-new-tokens <n>', 'generate at most so many tokens', wholeNumber(1), 128)
    .option('--temperature <t>', '0 takes the most probable token', numberBetween(0, Number.POSITIVE_INFINITY), 0)
    .option('--top-k <k>', 'sample from the k most probable tokens; 0 from all', wholeNumber(0), 0)
    .option('--top-p <p>', 'sample from the smallest set of tokens this probable', numberBetween(0, 1), 1)
    .option('--seed <n>', 'random state of the sampling', wholeNumber(0), 0)
    .option('--stop <text>', 'end before this text, such as "\\n"; may be given several times', collected)
    .option('--logprobs <k>', 'report the k most probable tokens of each step', wholeNumber(0))
    .option('--ignore-eos', "go on after the model's end of sequence")
    .addOption(new Option('--backend <name>', 'what computes').choices(['onnx', 'reference']).default('onnx'))
    .option('--threads <n>', 'threads of the matrix products (default: the cores)', wholeNumber(1))
    .option('--host-memory <size>', 'memory for weights, KV cache and buffers; without it all is in memory', byteSize)
    .option('--offload-dir <dir>', 'where an offload store is made (default: in the cache)')
    .option('--weight-bits <bits>', 'of weights in the offload store: 4, 8, 16 or 32 (default: 16)', weightBits)
    .option('--compute-bits <bits>', 'of the products: 32, or 8 where the processor has VNNI', computeBits)
    .option('--kv-bits <bits>', 'of keys and values in the cache: 4, 8, 16 or 32 (default: 32)', weightBits)
    .option('--sparse-attention <share>', 'of the positions that a new token sees, those it reads', numberBetween(0, 1))
    .addOption(new Option('--schedule <name>', 'who shares a sweep').choices(['continuous', 'block']))
    .option('--no-overlap', 'read and compute in turn')
    .option('--policy <file>', 'auto, or a JSON file with values of a policy', 'auto')
    .option('--context-tokens <n>', 'longest prompt and completion together to plan memory for', wholeNumber(1))
    .option('--json', 'end stdout with one JSON object')
    .action(generate);
}

async function generate(model: string, flags: GenerateFlags): Promise<void> {
  refuseContradictions(flags);
  const download = openBytesProgress(model);
  await interruptible(
    async (signal) => {
      const options = { signal, report: download.note, onProgress: download.update };
      const path = await obtainModel(model, options).finally(download.stop);
      const request = requestOf(flags, await promptOf(path, flags));
      const { hostMemory, weightBits, offloadDir } = flags;
      const offloads = hostMemory !== undefined || weightBits !== undefined;
      const weights = offloads ? await prepareOffloadStore(model, path, { offloadDir, weightBits, signal }) : path;
      const start = performance.now();
      const engine = await openEngine(engineOptions(weights, flags));
      const opened = performance.now();
      try {
        const [result] = await engine.run([request], { signal });
        report(result as GenerateResult, flags, engine.info.hasTokenizer, {
          openSeconds: (opened - start) / 1000,
          runSeconds: (performance.now() - opened) / 1000,
        });
      } finally {
        await engine.close();
      }
    },
    () => note('stopping'),
    'Interrupted.',
  );
}

function engineOptions(model: string, flags: GenerateFlags): EngineOptions {
  const { backend, overlap, threads, hostMemory, offloadDir, weightBits, computeBits, schedule, contextTokens } = flags;
  const { kvBits, sparseAttention, policy } = flags;
  return {
    model,
    backend,
    overlap,
    ...(threads !== undefined && { threads }),
    ...(hostMemory !== undefined && { hostMemoryBytes: hostMemory }),
    ...(offloadDir !== undefined && { offloadDir }),
    ...(weightBits !== undefined && { weightBits }),
    ...(computeBits !== undefined && { computeBits }),
    ...(kvBits !== undefined && { kvBits }),
    ...(sparseAttention !== undefined && { sparseAttention }),
    ...(schedule !== undefined && { schedule }),
    ...(contextTokens !== undefined && { contextTokens }),
    ...(policy !== 'auto' && { policy: readPolicy(policy) }),
  };
}

function refuseContradictions(flags: GenerateFlags): void {
  if (flags.prompt === undefined && flags.promptIds === undefined) {
    throw new InputError('nothing to answer: give --prompt TEXT or --prompt-ids 1,2,3');
  }
  if (flags.prompt !== undefined && flags.promptIds !== undefined) {
    throw new InputError('--prompt and --prompt-ids exclude each other; give one');
  }
  if (flags.chat && flags.promptIds !== undefined) {
    throw new InputError('--chat needs the prompt as text; give --prompt instead of --prompt-ids');
  }
  if (flags.system !== undefined && !flags.chat) throw new InputError('--system is part of a chat; add --chat');
}

async function promptOf(path: string, flags: GenerateFlags): Promise<Prompt> {
  if (flags.promptIds !== undefined) return flags.promptIds;
  const text = flags.prompt ?? '';
  return flags.chat ? chatPrompt(path, text, flags.system) : text;
}

function requestOf(flags: GenerateFlags, prompt: Prompt): GenerateRequest {
  const { temperature, topK, topP, seed } = flags;
  return {
    kind: 'generate',
    id: 'prompt',
    prompt,
    maxNewTokens: flags.maxNewTokens,
    stop: (flags.stop ?? []).map(unescaped),
    sampling: { temperature, topK, topP, seed },
    ignoreEos: flags.ignoreEos ?? false,
    topLogprobs: flags.logprobs ?? 0,
    promptLogprobs: flags.json ?? false,
  };
}

interface Times {
  readonly openSeconds: number;
  readonly runSeconds: number;
}

function report(result: GenerateResult, { json }: GenerateFlags, hasTokenizer: boolean, times: Times): void {
  if (result.error !== undefined) throw new InputError(result.error);
  if (json) printJson(toJson(result));
  else print(hasTokenizer ? result.text : result.tokens.join(','));
  const end = result.finishReason === 'stop' ? 'the model stopped' : 'the limit of --max-new-tokens was reached';
  note(
    `${formatCount(result.promptTokens)} prompt tokens, ${formatCount(result.tokens.length)} generated in ` +
      `${times.runSeconds.toFixed(1)} s (model opened in ${times.openSeconds.toFixed(1)} s); ${end}`,
  );
}

/** The contract of `generate --json`. */
function toJson(result: GenerateResult) {
  return {
    text: result.text,
    tokens: result.tokens,
    finishReason: result.finishReason,
    logprobs: result.tokens.map((token, step) => ({
      token,
      logprob: result.logprobs[step],
      top: result.topLogprobs?.[step] ?? [],
    })),
    promptLogprobs: result.promptLogprobs ?? [],
  };
}
