/** How V8 collects garbage while products are computed. */
import { setFlagsFromString } from 'node:v8';

/**
 * For the whole process. Arrays that leave onnxruntime make V8 collect several times a second; marking beside the products takes
 * their cores for longer than marking at once takes: a quarter of all CPU time, on two cores.
 */
export function collectAtOnce(): void {
  setFlagsFromString('--no-incremental-marking');
}
