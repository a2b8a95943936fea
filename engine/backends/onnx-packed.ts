/**
 * Stored matrices inside a graph: widened to float32 right before the product that reads them.
 *
 * Fed quantised products of onnxruntime (MatMulNBits) unpack at 0.2 to 0.8 billion weights a second; these few elementwise
 * nodes run on all threads and reach more, and they take FlexGen's float minimum as it is.
 */

import type { PackedMatrix } from '../memory/packed.js';
import { GROUP_SIZE } from '../memory/quantize.js';
import type { Dimension, ElementType, GraphBuilder } from './onnx-graph.js';

/** Of a Cast. */
export const FLOAT32 = 1;

/** How a matrix is stored: what a graph has to know of it. */
export type PackedForm = PackedMatrix['type'] | 'int8 padded' | 'int4 padded';

/** Groups are padded where the rows are no multiple of the group. */
export function packedForm({ type, shape }: PackedMatrix): PackedForm {
  const grouped = type === 'int8' || type === 'int4';
  return grouped && shape[0]! % GROUP_SIZE !== 0 ? `${type} padded` : type;
}

/** Declares the inputs of a stored matrix of this shape (out, in). @returns the float32 matrix. */
export function packedInput(graph: GraphBuilder, name: string, form: PackedForm, shape: readonly Dimension[]): string {
  switch (form) {
    case 'float32':
      return graph.input(name, 'float32', shape);
    case 'float16':
      return graph.node('Cast', [graph.input(name, 'float16', shape)], { to: FLOAT32 });
    case 'int8':
    case 'int4':
      return grouped(graph, name, form);
    case 'int8 padded':
    case 'int4 padded': {
      const whole = grouped(graph, name, form === 'int8 padded' ? 'int8' : 'int4');
      return graph.node('Slice', [whole, graph.ints(0), graph.input(`${name}Rows`, 'int64', [1]), graph.ints(0)]);
    }
  }
}

function grouped(graph: GraphBuilder, name: string, type: 'int8' | 'int4'): string {
  const width = `${name}Width`;
  const data = graph.input(name, 'uint8', [`${name}Bytes`, width]);
  const [scale, min] = ['Scale', 'Min'].map((part) => {
    const halves = graph.input(`${name}${part}`, 'float16', [`${name}Groups`, 1, width]);
    return graph.node('Cast', [halves], { to: FLOAT32 });
  }) as [string, string];
  const codes = type === 'int8' ? data : nibbles(graph, data);
  const columns = graph.node('Shape', [data], { start: 1, end: 2 });
  const byGroup = graph.node('Concat', [graph.ints(-1, GROUP_SIZE), columns], { axis: 0 });
  const values = graph.node('Cast', [graph.node('Reshape', [codes, byGroup])], { to: FLOAT32 });
  const restored = graph.node('Add', [graph.node('Div', [values, scale]), min]);
  return graph.node('Reshape', [restored, graph.node('Concat', [graph.ints(-1), columns], { axis: 0 })]);
}

/** (bytes, width) -> (bytes, 2, width): the high half of a byte is the row before that of its low half. */
function nibbles(graph: GraphBuilder, data: string): string {
  const four = graph.constant('uint8', [1], Uint8Array.of(4));
  const fifteen = graph.constant('uint8', [1], Uint8Array.of(15));
  const high = graph.node('BitShift', [data, four], { direction: 'RIGHT' });
  const low = graph.node('BitwiseAnd', [data, fifteen]);
  const axis = graph.ints(1);
  return graph.node('Concat', [graph.node('Unsqueeze', [high, axis]), graph.node('Unsqueeze', [low, axis])], {
    axis: 1,
  });
}

/** One array to feed. */
export interface PackedFeed {
  readonly type: ElementType;
  readonly data: Float32Array | Uint16Array | Uint8Array | BigInt64Array;
  readonly shape: readonly number[];
}

/** What to feed for a matrix declared by `packedInput`. */
export function packedFeeds(name: string, matrix: PackedMatrix): Record<string, PackedFeed> {
  if (matrix.type === 'float32' || matrix.type === 'float16') {
    return { [name]: { type: matrix.type, data: matrix.data, shape: matrix.shape } };
  }
  const { data, scale, min } = matrix.groups;
  const width = matrix.shape[1]!;
  const groups = scale.length / width;
  const padded = packedForm(matrix).endsWith('padded');
  return {
    [name]: { type: 'uint8', data, shape: [data.length / width, width] },
    [`${name}Scale`]: { type: 'float16', data: scale, shape: [groups, 1, width] },
    [`${name}Min`]: { type: 'float16', data: min, shape: [groups, 1, width] },
    ...(padded && { [`${name}Rows`]: { type: 'int64', data: BigInt64Array.of(BigInt(matrix.shape[0]!)), shape: [1] } }),
  };
}
