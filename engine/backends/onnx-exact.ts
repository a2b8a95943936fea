/** Whether this processor multiplies bytes exactly: without VNNI, pairs of products are added in 16 bits and clipped. */
import { EngineError } from '../errors.js';
import { GraphBuilder } from './onnx-graph.js';
import { bytes, type Sessions } from './onnx-session.js';

const WIDTH = 64;

/** @throws UNSUPPORTED if the sum of the largest products comes out clipped. */
export async function requireExactBytes(sessions: Sessions): Promise<void> {
  const session = await sessions.get('exact bytes', () => {
    const graph = new GraphBuilder('exact');
    const rows = graph.input('rows', 'uint8', ['rows', WIDTH]);
    const column = graph.constant('int8', [WIDTH, 1], new Int8Array(WIDTH).fill(127));
    graph.output('sum', graph.node('MatMulInteger', [rows, column]), 'int32', ['rows', 1]);
    return graph.build();
  });
  const { sum } = await session.run({ rows: bytes(new Uint8Array(2 * WIDTH).fill(255), [2, WIDTH]) });
  const found = (sum!.data as Int32Array)[0]!;
  if (found === WIDTH * 255 * 127) return;
  throw new EngineError(
    'UNSUPPORTED',
    `8-bit products: this processor clips them (${found} for ${WIDTH * 255 * 127}), as those without VNNI do; compute ` +
      'with 32 bits',
    { found, needed: WIDTH * 255 * 127 },
  );
}
