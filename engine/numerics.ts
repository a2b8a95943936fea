/**
 * Names of the engine's arithmetics. A name changes whenever answers may: it is part of every run's fingerprint.
 *
 * Apart from the backends, so that a run can be identified without opening a model.
 */
import type { EngineOptions } from './requests.js';

export const numericsOf: Readonly<Record<EngineOptions['backend'], string>> = {
  onnx: 'onnx-fp32-1',
  reference: 'reference-1',
};
