/**
 * ONNX graphs built in TypeScript: a builder of nodes that ends in the bytes of a ModelProto.
 *
 * Source: onnx.proto3 of the ONNX project, of which the schema below is the part that we write. Operators of domain
 * `com.microsoft` are described in ONNX Runtime's ContribOperators.
 */
import protobuf from 'protobufjs';

export type ElementType = 'float32' | 'uint8' | 'int8' | 'int32' | 'int64' | 'float16';
/** A number, or the name of a size known at run time only. */
export type Dimension = number | string;
export type Attribute = number | string | readonly number[] | { readonly float: number };

/** ONNX opset: 21 has block-wise DequantizeLinear; operators of `com.microsoft` have a version of their own. */
const OPSET_VERSION = 21;
const IR_VERSION = 10;
const DATA_TYPE: Readonly<Record<ElementType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  float16: 10,
};
const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, ints: 7 };

/** Collects the nodes of one graph. Every method that makes a value returns its name. */
export class GraphBuilder {
  private readonly nodes: object[] = [];
  private readonly inputs: object[] = [];
  private readonly outputs: object[] = [];
  private readonly initializers: object[] = [];
  private values = 0;

  constructor(readonly name: string) {}

  input(name: string, type: ElementType, shape: readonly Dimension[]): string {
    this.inputs.push(valueInfo(name, type, shape));
    return name;
  }

  /** Makes a value one of the graph's outputs, under a name of its own. */
  output(name: string, value: string, type: ElementType, shape: readonly Dimension[]): void {
    this.nodes.push({ opType: 'Identity', input: [value], output: [name], name: `output_${name}` });
    this.outputs.push(valueInfo(name, type, shape));
  }

  /** A constant that lives in the graph; keep it small. */
  constant(type: ElementType, shape: readonly number[], data: ArrayBufferView): string {
    const name = this.fresh('constant');
    const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.initializers.push({ name, dims: shape, dataType: DATA_TYPE[type], rawData });
    return name;
  }

  /** An int64 vector: shapes, axes, sizes of a split. */
  ints(...values: readonly number[]): string {
    return this.constant('int64', [values.length], BigInt64Array.from(values, BigInt));
  }

  /** One node with one output. `domain` is empty for ONNX's own operators. */
  node(opType: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}, domain = ''): string {
    return this.nodes_(opType, inputs, 1, attributes, domain)[0]!;
  }

  /** One node with several outputs. */
  nodes_(
    opType: string,
    inputs: readonly string[],
    outputs: number,
    attributes: Record<string, Attribute> = {},
    domain = '',
  ): string[] {
    const output = Array.from({ length: outputs }, () => this.fresh(opType));
    const attribute = Object.entries(attributes).map(([key, value]) => attributeProto(key, value));
    this.nodes.push({ opType, input: inputs, output, name: output[0], domain, attribute });
    return output;
  }

  reshape(value: string, ...shape: readonly number[]): string {
    return this.node('Reshape', [value, this.ints(...shape)]);
  }

  /** Parts of the given sizes along an axis. */
  split(value: string, axis: number, ...sizes: readonly number[]): string[] {
    return this.nodes_('Split', [value, this.ints(...sizes)], sizes.length, { axis });
  }

  /** The serialised ModelProto. */
  build(): Uint8Array {
    const graph = {
      name: this.name,
      node: this.nodes,
      input: this.inputs,
      output: this.outputs,
      initializer: this.initializers,
    };
    const opsetImport = [
      { domain: '', version: OPSET_VERSION },
      { domain: 'com.microsoft', version: 1 },
    ];
    const model = { irVersion: IR_VERSION, producerName: 'zigzag', graph, opsetImport };
    return ModelProto.encode(ModelProto.fromObject(model)).finish();
  }

  private fresh(stem: string): string {
    return `${stem}_${this.values++}`;
  }
}

function valueInfo(name: string, type: ElementType, shape: readonly Dimension[]): object {
  const dim = shape.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType: DATA_TYPE[type], shape: { dim } } } };
}

function attributeProto(name: string, value: Attribute): object {
  if (typeof value === 'number') return { name, type: ATTRIBUTE_TYPE.int, i: value };
  if (typeof value === 'string') return { name, type: ATTRIBUTE_TYPE.string, s: Buffer.from(value) };
  if ('float' in value) return { name, type: ATTRIBUTE_TYPE.float, f: value.float };
  return { name, type: ATTRIBUTE_TYPE.ints, ints: value };
}

const field = (id: number, type: string, rule?: 'repeated') => (rule ? { id, type, rule } : { id, type });
const ModelProto = protobuf.Root.fromJSON({
  nested: {
    Model: {
      fields: {
        irVersion: field(1, 'int64'),
        producerName: field(2, 'string'),
        graph: field(7, 'Graph'),
        opsetImport: field(8, 'OperatorSetId', 'repeated'),
      },
    },
    OperatorSetId: { fields: { domain: field(1, 'string'), version: field(2, 'int64') } },
    Graph: {
      fields: {
        node: field(1, 'Node', 'repeated'),
        name: field(2, 'string'),
        initializer: field(5, 'Tensor', 'repeated'),
        input: field(11, 'ValueInfo', 'repeated'),
        output: field(12, 'ValueInfo', 'repeated'),
      },
    },
    Node: {
      fields: {
        input: field(1, 'string', 'repeated'),
        output: field(2, 'string', 'repeated'),
        name: field(3, 'string'),
        opType: field(4, 'string'),
        attribute: field(5, 'Attribute', 'repeated'),
        domain: field(7, 'string'),
      },
    },
    Attribute: {
      fields: {
        name: field(1, 'string'),
        f: field(2, 'float'),
        i: field(3, 'int64'),
        s: field(4, 'bytes'),
        ints: field(8, 'int64', 'repeated'),
        type: field(20, 'int32'),
      },
    },
    Tensor: {
      fields: {
        dims: field(1, 'int64', 'repeated'),
        dataType: field(2, 'int32'),
        name: field(8, 'string'),
        rawData: field(9, 'bytes'),
      },
    },
    ValueInfo: { fields: { name: field(1, 'string'), type: field(2, 'Type') } },
    Type: { fields: { tensorType: field(1, 'TensorType') } },
    TensorType: { fields: { elemType: field(1, 'int32'), shape: field(2, 'Shape') } },
    Shape: { fields: { dim: field(1, 'Dimension', 'repeated') } },
    Dimension: { fields: { dimValue: field(1, 'int64'), dimParam: field(2, 'string') } },
  },
}).lookupType('Model');
