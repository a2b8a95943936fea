/**
 * Steps of a layer as runs of their graphs, row tile by row tile: how rows go in and come out.
 */
import type { Scratch } from '../memory/scratch.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import type { Columns, Projection } from './backend.js';
import { type Feeds, float, floats, longs, type Rows, rowFeeds, type Session } from './onnx-session.js';
import { type RotaryTables, rotaryByLayer } from './rotary.js';
import { computedRows, putColumns, putTile, type RowTile, rowTiles, takeTile } from './row-tiles.js';

/** Rows of one dense call. */
const ROW_TILE = 512;

/** Which layer's rotation the rows take, and where they stand. */
export interface Turn {
  readonly layer: number;
  readonly positions: Int32Array;
}

export interface Steps {
  /** Queries, keys and values, by a graph that ends in them. */
  projection(session: Session, feeds: Feeds, rows: Rows, turn: Turn): Promise<Projection>;
  /**
   * The one output of a graph: (rows, width).
   * @param into receives it, and what `into` holds is returned
   */
  rowwise(session: Session, feeds: Feeds, rows: Rows, width: number, into?: Columns): Promise<Float32Array>;
}

/** @param scratch where results go, until the next call puts its own there; without it they are the caller's */
export function openSteps(config: ModelConfig, scratch?: Scratch): Steps {
  const array = (name: string, length: number) => scratch?.take(name, length) ?? new Float32Array(length);
  const [queryKeyWidth, valueWidth] = [queryKeySize(config), valueSize(config)];
  const rotary = rotaryByLayer(config);
  /** The rotation takes rows for one sequence, which is no longer than its tables. */
  const positionTile = Math.min(ROW_TILE, config.maxPositions);
  return {
    async projection(session, feeds, rows, { layer, positions }) {
      const tables = rotary(layer);
      const count = positions.length;
      const [queryKey, value] = [array('queryKey', count * queryKeyWidth), array('value', count * valueWidth)];
      for (const tile of rowTiles(count, positionTile)) {
        const turned = tables ? turnFeeds(tables, positions, tile) : {};
        const outputs = await session.run({ ...feeds, ...rowFeeds(rows, tile), ...turned });
        putTile(queryKey, floats(outputs.queryKey!), queryKeyWidth, tile);
        putTile(value, floats(outputs.value!), valueWidth, tile);
      }
      return { queryKey, value };
    },

    async rowwise(session, feeds, rows, width, into) {
      const [first] = Object.values(rows);
      const count = first!.data.length / first!.width;
      const result = into ?? { rows: array('result', count * width), width, first: 0 };
      for (const tile of rowTiles(count, ROW_TILE)) {
        const outputs = await session.run({ ...feeds, ...rowFeeds(rows, tile) });
        putColumns(result, floats(Object.values(outputs)[0]!), width, tile);
      }
      return result.rows;
    },
  };
}

function turnFeeds({ cos, sin, rotaryDim }: RotaryTables, positions: Int32Array, tile: RowTile): Feeds {
  const shape = [cos.length / (rotaryDim / 2), rotaryDim / 2];
  const own = longs(takeTile(positions, 1, tile), [1, computedRows(tile)]);
  return { cos: float(cos, shape), sin: float(sin, shape), positions: own };
}
