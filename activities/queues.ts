/** Names of task queues: one for plans, and beside it one for each kind of device. */

/** Polled by `zigzag worker`, and used by runs that are not to compute in the command that starts them. */
export const SHARED_QUEUE = 'zigzag';

export function deviceQueueOf(queue: string, device: string): string {
  return `${queue}-${device.replace(/[^\w.-]/g, '-')}`;
}
