/** @param onWait called once, with the owner's process id, if another process holds the lock. */
export function withLock<T>(path: string, act: () => Promise<T>, onWait?: (pid: number | undefined) => void): Promise<T>;
export function isAlive(pid: number): boolean;
