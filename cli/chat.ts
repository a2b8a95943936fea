/** A prompt as one turn of a conversation, in the form that the model was trained on. */
import { InputError } from '../datasets/errors.js';
import { type ChatMessage, renderChat } from '../datasets/prompt.js';
import { openModel } from '../engine/model/open.js';
import { cacheDirectory } from './bootstrap.js';

/**
 * Token ids of a user's message, with the model's turn begun. Ids rather than text: a chat template writes BOS itself,
 * so nothing must be added around it.
 *
 * @throws InputError where the model has no chat template or no tokenizer.
 */
export async function chatPrompt(model: string, text: string, system: string | undefined): Promise<number[]> {
  const { weights, tokenizer, chatTemplate } = await openModel(model, { cacheDir: cacheDirectory() });
  await weights.close();
  if (tokenizer === undefined) throw new InputError(`${model} has no tokenizer; give --prompt-ids without --chat`);
  if (chatTemplate === undefined) throw new InputError(`${model} has no chat template; leave --chat out`);
  const messages: ChatMessage[] = [
    ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
    { role: 'user', content: text },
  ];
  const options = { bosToken: tokenizer.bosToken ?? '', eosToken: tokenizer.eosToken ?? '', addGenerationPrompt: true };
  return tokenizer.encode(renderChat(chatTemplate, messages, options), { addSpecial: false });
}
