/**
 * Whether this Node can run Zigzag. Written so that old versions can read it too: no syntax younger than Node 14.
 */
import process from 'node:process';

/** Lowest version, as `engines` in package.json says: Temporal's SDK needs 20.3. */
const NEEDED = [20, 3];

/** Ends the process with exit code 2 and one sentence where Node is too old. */
export function requireNode(version = process.versions.node) {
  const complaint = nodeComplaint(version);
  if (complaint === undefined) return;
  process.stderr.write(`${complaint}\n`);
  process.exit(2);
}

/** What is wrong with a version, or undefined. */
export function nodeComplaint(version) {
  const [major, minor] = version.split('.').map(Number);
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return undefined;
  return `zigzag needs Node ${NEEDED.join('.')} or later, and this is Node ${version} (${process.execPath}). Install a later one (https://nodejs.org) and run the same command again.`;
}
