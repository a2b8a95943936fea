import type { ModelConfig } from '../model/config.js';

/** What is the same for all choices of a model is computed once: a search asks for it a thousand times. */
export function perModel<Value>(compute: (config: ModelConfig) => Value): (config: ModelConfig) => Value {
  const known = new WeakMap<ModelConfig, Value>();
  return (config) => {
    const found = known.get(config) ?? compute(config);
    known.set(config, found);
    return found;
  };
}
