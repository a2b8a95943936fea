import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEngineHost } from '../../engine/host.js';
import type { Engine, GenerateResult, ScoreResult } from '../../engine/requests.js';
import { type GoldenPrompt, goldenRequest, readGolden, readJsonFixture } from '../support/golden.js';
import { smollm2Path } from '../support/smollm2.js';

interface Question {
  readonly context: string;
  readonly options: readonly { readonly text: string; readonly sumLogprob: number; readonly isGreedy: boolean }[];
}

/** Of one log-probability, as the recording suggests for float32 engines. */
const TOLERANCE = 5e-4;
/** Two best logits closer than this may swap; what follows then differs. */
const TIE = 5e-3;

const golden = readGolden('smollm2-135m', 'golden.json');
const { questions } = readJsonFixture<{ questions: Question[] }>('smollm2-135m', 'choices.json');

describe('SmolLM2-135M-Instruct from its Q4_1 file', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngineHost({ model: smollm2Path, backend: 'onnx', threads: 2 });
  });
  afterAll(() => engine?.close());

  it('goes on from text as recorded, in one ragged batch', async () => {
    const requests = golden.prompts.map((prompt, i) => ({ ...goldenRequest(String(i), prompt), prompt: prompt.text! }));
    const results = await engine.run(requests);
    results.forEach((result, i) => {
      expectRecorded(result as GenerateResult, golden.prompts[i]!);
    });
  });

  it('ends where the recording first meets EOS', async () => {
    const ending = golden.prompts.filter(({ firstEos }) => firstEos !== null && firstEos !== undefined);
    expect(ending.length).toBeGreaterThan(0);
    const results = await engine.run(
      ending.map((prompt, i) => ({ ...goldenRequest(String(i), prompt), ignoreEos: false })),
    );
    results.forEach((result, i) => {
      const { tokens, finishReason } = result as GenerateResult;
      expect(finishReason).toBe('stop');
      expect(tokens).toEqual(ending[i]!.greedy.slice(0, ending[i]!.firstEos! + 1));
    });
  });

  it('scores the options of each question as recorded', async () => {
    const results = await engine.run(
      questions.map(({ context, options }, i) => ({
        kind: 'score' as const,
        id: String(i),
        context,
        options: options.map(({ text }) => text),
      })),
    );
    results.forEach((result, i) => {
      (result as ScoreResult).options.forEach(({ logprob, tokens, isGreedy }, option) => {
        const recorded = questions[i]!.options[option]!;
        expect(Math.abs(logprob - recorded.sumLogprob)).toBeLessThan(TOLERANCE * tokens);
        expect(isGreedy).toBe(recorded.isGreedy);
      });
    });
  });
});

/** Compares up to the first tie at which the paths part. */
function expectRecorded(result: GenerateResult, prompt: GoldenPrompt): void {
  const parted = prompt.greedy.findIndex((token, i) => token !== result.tokens[i]);
  if (parted >= 0) expect(prompt.margins![parted]).toBeLessThan(TIE);
  const common = parted >= 0 ? parted : prompt.greedy.length;
  for (let i = 0; i < common; i++) {
    expect(Math.abs(result.logprobs[i]! - prompt.logprobs[i]!)).toBeLessThan(TOLERANCE);
  }
}
