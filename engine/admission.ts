/**
 * From requests to sequences: encoding, and every reason why a request cannot be computed.
 */
import { EngineError } from './errors.js';
import type { ModelConfig } from './model/config.js';
import type { Tokenizer } from './model/tokenizer.js';
import type { EngineRequest, EngineResult, GenerateRequest, Prompt, ScoreRequest } from './requests.js';
import { tokenTree } from './schedule/token-tree.js';
import { GenerateSequence, ScoreSequence, type Sequence } from './sequence.js';

export interface Encoder {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | undefined;
  /** Longest sequence that there is room for, at most the model's context. */
  readonly contextTokens: number;
  /** Most tokens of a context and its options together that there is room for. */
  readonly passRows: number;
}

/** @returns a sequence to compute, or the result that says why there is none. */
export async function admit(request: EngineRequest, encoder: Encoder): Promise<Sequence | EngineResult> {
  try {
    return await (request.kind === 'generate' ? admitGenerate(request, encoder) : admitScore(request, encoder));
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return failed(request, error.message);
  }
}

async function admitGenerate(
  request: GenerateRequest,
  { config, tokenizer, contextTokens }: Encoder,
): Promise<GenerateSequence> {
  const ids = startOf(await encode(request.prompt, tokenizer), config);
  checkIds(ids, config);
  if (ids.length >= config.maxPositions) {
    throw tooLong(`prompt has ${ids.length} tokens`, config, 'shorten it, or leave room for at least one new token');
  }
  if (ids.length + request.maxNewTokens > contextTokens && contextTokens < config.maxPositions) {
    throw new EngineError(
      'BAD_INPUT',
      `prompt and completion may take ${ids.length + request.maxNewTokens} tokens, and memory was planned for ` +
        `${contextTokens}; raise contextTokens, or shorten one of them`,
      { contextTokens },
    );
  }
  if (request.stop.length > 0 && !tokenizer) {
    throw new EngineError('BAD_INPUT', 'stop strings need a tokenizer, and this model has none; stop by EOS or length');
  }
  return new GenerateSequence(request, ids, config, tokenizer?.stream({ skipSpecial: true }));
}

async function admitScore(request: ScoreRequest, { config, tokenizer, passRows }: Encoder): Promise<ScoreSequence> {
  const pairs = await Promise.all(request.options.map((option) => encodePair(request.context, option, tokenizer)));
  const sequences = pairs.map((pair, i) => {
    const context = startOf(pair.context, config);
    checkIds([...context, ...pair.continuation], config);
    const length = context.length + pair.continuation.length;
    if (length > config.maxPositions) throw tooLong(`context and option have ${length} tokens`, config, 'shorten them');
    if (pair.continuation.length === 0) {
      throw new EngineError('BAD_INPUT', `option ${JSON.stringify(request.options[i])} has no tokens; give it text`);
    }
    return { context, continuation: pair.continuation };
  });
  const tree = tokenTree(sequences);
  const rows = tree.tokens.length;
  if (rows > passRows) {
    throw new EngineError(
      'BAD_INPUT',
      `context and options have ${rows} tokens together, and memory was planned for ${passRows}; give the request ` +
        'fewer options, or raise contextTokens',
      { rows, passRows },
    );
  }
  return new ScoreSequence(request, tree, sequences[0]?.context.length ?? 0);
}

async function encode(prompt: Prompt, tokenizer: Tokenizer | undefined): Promise<readonly number[]> {
  if (typeof prompt !== 'string') return prompt;
  return needTokenizer(tokenizer).encode(prompt);
}

async function encodePair(context: Prompt, option: Prompt, tokenizer: Tokenizer | undefined) {
  if (typeof context === 'string' && typeof option === 'string') {
    return needTokenizer(tokenizer).encodePair(context, option);
  }
  if (typeof context !== 'string' && typeof option !== 'string') return { context, continuation: option };
  throw new EngineError('BAD_INPUT', 'context and options must all be text or all be token ids');
}

function needTokenizer(tokenizer: Tokenizer | undefined): Tokenizer {
  if (tokenizer) return tokenizer;
  throw new EngineError('BAD_INPUT', 'this model has no tokenizer: text cannot be encoded; give token ids');
}

/** An empty prompt starts with the model's BOS, if it has one. */
function startOf(ids: readonly number[], config: ModelConfig): readonly number[] {
  if (ids.length > 0) return ids;
  if (config.bosTokenId !== undefined) return [config.bosTokenId];
  throw new EngineError('BAD_INPUT', 'the prompt is empty, and this model has no BOS token to start from');
}

function checkIds(ids: readonly number[], { vocabSize }: ModelConfig): void {
  const bad = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (bad === undefined) return;
  throw new EngineError('BAD_INPUT', `token id ${bad} is outside the vocabulary of ${vocabSize}`, { bad, vocabSize });
}

function tooLong(what: string, { maxPositions }: ModelConfig, change: string): EngineError {
  const message = `${what}, and the model's context holds ${maxPositions}; ${change}`;
  return new EngineError('BAD_INPUT', message, { maxPositions });
}

function failed(request: EngineRequest, error: string): EngineResult {
  if (request.kind === 'score') return { kind: 'score', id: request.id, promptTokens: 0, options: [], error };
  return {
    kind: 'generate',
    id: request.id,
    text: '',
    tokens: [],
    finishReason: 'error',
    promptTokens: 0,
    logprobs: [],
    error,
  };
}
