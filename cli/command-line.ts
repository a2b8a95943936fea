/** The command that was typed, so that it can be shown for typing again. */

/** Words that change what is shown and not what is done. */
const DISPLAY_OPTIONS = new Set(['--json', '--detach']);

/** As a POSIX shell would take it. */
export function typedCommand(words: readonly string[] = process.argv.slice(2)): string {
  return ['zigzag', ...words.filter((word) => !DISPLAY_OPTIONS.has(word)).map(quoted)].join(' ');
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
