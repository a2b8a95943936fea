/** Where `npm test` puts the real model that some tests need. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const modelsHome = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'zigzag', 'models');

/** SmolLM2-135M-Instruct, 98 MB. */
export const smollm2Path = join(modelsHome, 'smollm2-135m-instruct', 'SmolLM2-135M-Instruct.Q4_1.gguf');

/** For `describe.skipIf`: such a test is skipped, and says so, where the file was not fetched. */
export const smollm2IsMissing = !existsSync(smollm2Path);
