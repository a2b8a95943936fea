/**
 * Numbers as people read them in a report. The same everywhere: no locale of the machine changes them.
 */

/** Whole numbers with commas: 1,319. */
export function count(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A share of one as a percentage with one decimal: 62.5 %. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** 0.4 s, 41 s, 3 min 05 s, 2 h 07 min. */
export function duration(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${twoDigits(whole % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} min`;
}

/** Three figures: 0.512, 41.3, 1,161. */
export function rate(value: number): string {
  if (value >= 99.95) return count(value);
  return value.toPrecision(3);
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}
