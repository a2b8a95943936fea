/** Arrays that are used again and again: fresh ones cost page faults, zeroes and collections of garbage. */
export class Scratch {
  private readonly arrays = new Map<string, Float32Array>();

  /** With what it held before; whoever takes the same name again gets the same memory. */
  take(name: string, length: number): Float32Array {
    const known = this.arrays.get(name);
    if (known && known.length >= length) return known.subarray(0, length);
    const array = new Float32Array(length);
    this.arrays.set(name, array);
    return array;
  }
}
