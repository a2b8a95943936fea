/**
 * What people see: colours where they are wanted, numbers and sizes as people write them, tables.
 *
 * Progress and logs go to stderr, results to stdout; so colours are decided for each of the two streams.
 */
import pc from 'picocolors';

export interface Output {
  readonly isTTY?: boolean | undefined;
  write(text: string): unknown;
}

/** Colours for a stream. NO_COLOR (https://no-color.org) wins over FORCE_COLOR, both over what the stream is. */
export function coloursFor(stream: Output, env: NodeJS.ProcessEnv = process.env) {
  const isWanted = env.FORCE_COLOR ? env.FORCE_COLOR !== '0' : stream.isTTY === true && env.TERM !== 'dumb';
  return pc.createColors(isWanted && !env.NO_COLOR);
}

/** 1234567 as "1,234,567". */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}

/** Bytes in decimal units, as disks and downloads are labelled. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds as "8 s", "2 min 05 s", "3 h 20 min" or "24 h". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  const minutes = Math.floor((whole % 3600) / 60);
  return `${Math.floor(whole / 3600)} h${minutes === 0 ? '' : ` ${pad(minutes)} min`}`;
}

/** Columns that line up: text to the left, a column whose cells are all numbers to the right. */
export function formatTable(rows: readonly (readonly string[])[], indent = '  '): string {
  const numColumns = Math.max(...rows.map((row) => row.length));
  const columns = Array.from({ length: numColumns }, (_, column) => rows.map((row) => row[column] ?? ''));
  const widths = columns.map((cells) => Math.max(...cells.map((cell) => cell.length)));
  const isNumeric = columns.map(
    (cells) => cells.length > 1 && cells.slice(1).every((cell) => /^[\d.,%±\s-]*$/.test(cell)),
  );
  return rows
    .map((row) => {
      const cells = widths.map((width, column) => {
        const cell = row[column] ?? '';
        return isNumeric[column] ? cell.padStart(width) : cell.padEnd(width);
      });
      return `${indent}${cells.join('  ')}`.trimEnd();
    })
    .join('\n');
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}
