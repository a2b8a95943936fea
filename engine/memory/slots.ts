/** A bound on what is under way at a time; the others wait in the order in which they came, what is urgent before the rest. */
export class Slots {
  private taken = 0;
  private readonly waiting: (() => void)[] = [];
  private readonly urgent: (() => void)[] = [];
  private readonly whenIdle: (() => void)[] = [];

  constructor(private readonly size: number) {}

  async run<Result>(act: () => Promise<Result>, isUrgent = false): Promise<Result> {
    const line = isUrgent ? this.urgent : this.waiting;
    if (this.taken >= this.size) await new Promise<void>((resolve) => line.push(resolve));
    else this.taken++;
    try {
      return await act();
    } finally {
      this.release();
    }
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    if (this.taken > 0) await new Promise<void>((resolve) => this.whenIdle.push(resolve));
  }

  /** The slot goes to the next in line without being free in between. */
  private release(): void {
    const next = this.urgent.shift() ?? this.waiting.shift();
    if (next !== undefined) {
      next();
      return;
    }
    this.taken--;
    if (this.taken > 0) return;
    for (const resolve of this.whenIdle.splice(0)) resolve();
  }
}
